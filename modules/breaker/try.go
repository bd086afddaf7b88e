package breaker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// try is one attempt of one upstream, from the first byte of the request to the
// last of the answer. Its outcome is settled once and its end told once.
type try struct {
	exchange.Attempt
	x       *crossing
	of      *tracked
	lease   circuit.Lease
	req     *http.Request
	res     *http.Response
	slow    bool
	settled bool
	// connecting says that the attempt failed before a connection stood.
	connecting bool
	probe      bool
	ended      bool
	cancel     context.CancelFunc // ends the attempt where it has a context of its own
	answer     time.Time          // when the answer began; zero before

	out requestBody
	in  responseBody
}

// begin opens a try of the chosen upstream. It takes over the lease.
func (x *crossing) begin(req *http.Request, now time.Time) *try {
	t := &x.first
	if x.tries > 0 {
		t = new(try)
	}
	x.tries++
	x.last = t
	t.x, t.of, t.lease, t.req = x, x.chosen, x.lease, req
	t.probe = x.lease.Probe()
	x.chosen, x.lease = nil, circuit.Lease{}
	t.Began = now
	if t.of != nil {
		t.Upstream = t.of.upstream
	}
	if req.Body != nil && req.Body != http.NoBody {
		t.out.ReadCloser = req.Body
		t.out.began = now
		req.Body = &t.out
	}
	x.clock.tell(req, now)
	if t.of != nil {
		x.card.Note("breaker.state", t.of.State().String())
	}
	x.card.Begin(req, &t.Attempt)
	return t
}

// failed settles a try without an answer and returns the error for the proxy.
func (t *try) failed(err error) error {
	now := time.Now()
	if t.x.clock.passed() {
		err = errDeadline
	}
	t.Err = err
	result := t.classifyError(err)
	t.connecting = result.Local
	t.settle(now, result)
	t.end(now)
	return err
}

// answered settles a try whose outcome shows at the head of the answer, or sees
// to it that the end of the body does.
func (t *try) answered(res *http.Response) {
	now := time.Now()
	t.answer, t.res = now, res
	t.Status = res.StatusCode
	t.slow = t.isSlow(now)
	result, decided := t.classifyHead(res)
	if decided {
		t.settle(now, result)
	} else if t.of != nil {
		t.of.Answered(&t.lease, now)
	}
	if res.StatusCode == http.StatusSwitchingProtocols || res.Body == nil || res.Body == http.NoBody {
		t.settle(now, circuit.Result{Outcome: circuit.Success})
		t.end(now)
		return
	}
	t.in.ReadCloser, t.in.t = res.Body, t
	res.Body = &t.in
}

// isSlow measures from the end of the request: a slow upload is the client's.
func (t *try) isSlow(now time.Time) bool {
	limit := time.Duration(t.x.h.Policy.SlowAfter)
	if limit == 0 {
		return false
	}
	from := t.Began
	if t.out.ReadCloser != nil {
		sent := t.out.sent.Load()
		if sent == 0 {
			return false // it answers while the request is still being sent
		}
		from = t.Began.Add(time.Duration(sent))
	}
	return now.Sub(from) >= limit
}

// settle gives the lease back with the outcome, once.
func (t *try) settle(now time.Time, r circuit.Result) {
	if t.settled {
		return
	}
	t.settled = true
	r.Slow = t.slow && r.Outcome != circuit.Ignored
	r.Client = t.x.client
	if t.of == nil {
		return
	}
	if r.Outcome == circuit.Failure {
		t.of.lastFail.Store(&failing{At: now, Why: t.complaint()})
	}
	if t.lease.Probe() {
		probesTotal.WithLabelValues(t.of.policy, t.of.series, r.Outcome.String()).Inc()
	}
	t.of.results[r.Outcome].Inc()
	t.of.End(&t.lease, now, r, &t.x.h.settings)
}

// end tells the watcher, once. A try that nobody settled, because a handler
// panicked in between, says nothing about the upstream.
func (t *try) end(now time.Time) {
	if t.ended {
		return
	}
	t.ended = true
	t.settle(now, circuit.Result{Outcome: circuit.Ignored})
	t.Duration = now.Sub(t.Began)
	if w := t.x.card.Watch; w != nil {
		w.End(&t.Attempt)
	}
	if t.cancel != nil {
		t.cancel()
	}
}

// outcome is the error that the proxy would have returned after this try, had
// there been no more.
func (t *try) outcome() error {
	if t.res != nil {
		return caddyhttp.Error(t.Status, errors.New("no more retries for an answer that asks for one"))
	}
	status := http.StatusBadGateway
	if timeout, ok := t.Err.(net.Error); ok && timeout.Timeout() {
		status = http.StatusGatewayTimeout
	}
	return caddyhttp.Error(status, t.Err)
}

// latency is how long the answer took to begin, or the attempt to fail.
func (t *try) latency() time.Duration {
	if t.answer.IsZero() {
		return t.Duration
	}
	return t.answer.Sub(t.Began)
}

// requestBody notes when the request was sent in full, and whether it was the
// client's side that broke. The transport reads it on a goroutine of its own and
// may close it on another, which the proxy's own body is not made for: a close
// that finds somebody reading is done when the read is.
type requestBody struct {
	io.ReadCloser
	began  time.Time
	sent   atomic.Int64 // after began, in nanoseconds; zero before
	read   atomic.Bool  // at least a byte of it
	broken atomic.Bool

	mu      sync.Mutex // held while the body is read or closed
	closing atomic.Bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	n, err := b.ReadCloser.Read(p)
	b.mu.Unlock()
	if n > 0 && !b.read.Load() {
		b.read.Store(true)
	}
	switch {
	case b.closing.Load():
		_ = b.Close()
	case err == io.EOF:
		b.sent.CompareAndSwap(0, max(int64(time.Since(b.began)), 1))
	case err != nil:
		b.broken.Store(true)
	}
	return n, err
}

func (b *requestBody) Close() error {
	b.closing.Store(true)
	if !b.mu.TryLock() {
		return nil
	}
	defer b.mu.Unlock()
	return b.ReadCloser.Close()
}

// responseBody sees how the answer ends.
type responseBody struct {
	io.ReadCloser
	t *try
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.t.finish(err)
	}
	return n, err
}

func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	b.t.finish(nil)
	return err
}

// finish settles a try by the end of its body: io.EOF, the error it broke off
// with, or nil when it was closed early.
func (t *try) finish(err error) {
	if t.ended {
		return
	}
	now := time.Now()
	if err != nil && err != io.EOF {
		t.Err = err
	}
	if !t.settled {
		t.settle(now, t.classifyEnd(err, now))
	}
	t.end(now)
}
