package breaker

import (
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// atOnce is the flush interval of streams.
const atOnce = time.Duration(-1)

// flushes says how long the client, who got the fields h, may wait for each
// piece; zero: until there is enough of them.
func (f *forwarding) flushes(res *http.Response, h http.Header) time.Duration {
	if res.ContentLength == -1 || caddyhttp.IsIncremental(res.Header) || caddyhttp.IsIncremental(h) {
		return atOnce
	}
	kind := h.Get("Content-Type")
	if bare, _, _ := strings.Cut(kind, ";"); strings.EqualFold(strings.TrimSpace(bare), "text/event-stream") {
		if media, _, err := mime.ParseMediaType(kind); err == nil && media == "text/event-stream" {
			return atOnce
		}
	}
	return time.Duration(f.l.proxy.FlushInterval)
}

// flushing returns what to write the body to. The caller must call done.
func (f *forwarding) flushing(interval time.Duration) (w io.Writer, done func()) {
	if interval == 0 {
		return f.w, func() {}
	}
	control := http.NewResponseController(f.w)
	if interval > 0 {
		d := &delayed{w: f.w, flush: control.Flush, interval: interval, due: true}
		d.timer = time.AfterFunc(interval, d.over) // the head must not wait for the body
		return d, d.stop
	}
	if !f.ready() {
		_ = control.Flush()
	}
	return flushed{f.w, control}, func() {}
}

// ready says that some of the body has come together with the head.
func (f *forwarding) ready() bool {
	b, ok := f.last.in.ReadCloser.(interface{ Ready() bool })
	return ok && b.Ready()
}

// flushed sends each piece at once.
type flushed struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w flushed) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	_ = w.control.Flush()
	return n, err
}

// delayed sends what was written after an interval at most, as reverse_proxy's
// writer of the kind.
type delayed struct {
	w        io.Writer
	flush    func() error
	interval time.Duration
	timer    *time.Timer

	mu  sync.Mutex // guards due, and w while somebody flushes
	due bool
}

func (d *delayed) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.w.Write(p)
	if !d.due {
		d.due = true
		d.timer.Reset(d.interval)
	}
	return n, err
}

func (d *delayed) over() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due {
		_ = d.flush()
		d.due = false
	}
}

func (d *delayed) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due = false
	d.timer.Stop()
}
