package wire

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// call is one request on one connection.
type call struct {
	t     *Transport
	c     *conn
	req   *http.Request
	ctx   context.Context
	hear  Hearer // nil where nobody wants to hear
	room  *Room
	up    *upload    // nil where the request has no body
	timer *headTimer // nil where the head of the answer may take its time
	again bool       // do failed, and the request may be sent once more
}

// do sends the request and reads the head of its answer.
func (k *call) do() (*http.Response, error) {
	c := k.c
	zipped := !k.t.base.DisableCompression && k.req.Header.Get("Accept-Encoding") == "" &&
		k.req.Header.Get("Range") == "" && k.req.Method != http.MethodHead
	c.whole = false
	c.writeHead(k.req, zipped)
	c.whole = bodiless(k.req) && k.t.base.ResponseHeaderTimeout == 0
	if err := c.bw.Flush(); err != nil {
		return nil, k.failed(broken(err))
	}
	if d := k.t.base.ResponseHeaderTimeout; d > 0 {
		k.timer = k.watch(d)
		defer k.timer.stop()
	}
	k.send()
	c.limit = k.t.head
	if _, err := c.br.Peek(1); err != nil {
		k.again = true
		return nil, k.failed(err)
	}
	res, err := c.readHead(k)
	if err != nil {
		return nil, k.failed(broken(err))
	}
	c.limit = -1
	if k.timer != nil {
		k.timer.stop() // an answer without a body gives the connection back
	}
	return k.answer(res, zipped), nil
}

// send starts the body of the request on its own way: the answer may begin, and
// end, before the body does.
func (k *call) send() {
	if bodiless(k.req) {
		closeBody(k.req)
		return
	}
	k.up = &upload{done: make(chan struct{})}
	if awaits(k.req) {
		k.up.asked, k.up.patience = make(chan bool, 1), k.t.base.ExpectContinueTimeout
	}
	go k.up.run(k.c, k.req)
}

// failed gives the connection up and returns what to tell the caller. It leaves
// again true where the request may be sent once more: nothing of it was sent, or
// nothing of an answer came and a second time does no harm. A new connection
// that fails so is not tried again: the upstream does not like the request.
func (k *call) failed(err error) error {
	c := k.c
	stopped := c.pool.unwatch(c)
	_ = c.Close()
	if k.up == nil {
		closeBody(k.req)
	} else {
		k.up.ask(false)
		<-k.up.done // the caller may use the request again
	}
	k.again = c.reused && k.up == nil && (c.sent == 0 || k.again && replayable(k.req))
	switch {
	case !stopped && k.ctx.Err() != nil:
		k.again = false
		return context.Cause(k.ctx)
	case k.timer != nil && k.timer.late.Load():
		k.again = false
		return timeout{}
	case k.up != nil && k.up.unread:
		return k.up.err
	case k.up != nil && k.up.err != nil && !errors.Is(k.up.err, net.ErrClosed): // else it ended because of this
		return broken(k.up.err)
	case c.limit == 0:
		return broken(fmt.Errorf("net/http: server response headers exceeded %d bytes; aborted", k.t.head))
	}
	return err
}

func broken(err error) error {
	return fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", err)
}

// replayable is net/http's notion of a request that may be sent twice.
func replayable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return req.Header["Idempotency-Key"] != nil || req.Header["X-Idempotency-Key"] != nil
}

// answer hands the answer to the caller, and the connection back to the pool as
// soon as there is nothing left on it.
func (k *call) answer(res *http.Response, zipped bool) *http.Response {
	c := k.c
	b := &k.room.body
	b.ReadCloser, b.ctx, b.c, b.up, b.keep = res.Body, k.ctx, c, k.up, !res.Close && !k.req.Close
	if k.req.Method == http.MethodHead || res.ContentLength == 0 {
		b.finish(true)
		return res
	}
	res.Body = b
	if zipped && strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		res.Body = &gunzip{body: b}
		res.Header.Del("Content-Encoding")
		res.Header.Del("Content-Length")
		res.ContentLength = -1
		res.Uncompressed = true
	}
	return res
}

// readHead reads up to the first answer that is not informational.
func (c *conn) readHead(k *call) (*http.Response, error) {
	for {
		var err error
		res := ordinary(c.br, k.req, k.room)
		if res == nil {
			res, err = http.ReadResponse(c.br, k.req)
		}
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitched
		case res.StatusCode < 100 || res.StatusCode > 199:
			// A body that was kept back is sent all the same, unless the
			// connection ends here: the next request stands behind it.
			k.up.ask(!res.Close && !k.req.Close)
			res.TLS = c.tls
			return res, nil
		case res.StatusCode == http.StatusContinue:
			k.up.ask(true)
		}
		if k.hear != nil {
			if err := k.hear.Hear(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
				return nil, err
			}
			c.limit = k.t.head // whoever hears of them bounds their number
		}
	}
}

// headTimer closes the connection if the head of the answer takes too long,
// counted from the end of the request.
type headTimer struct {
	mu    sync.Mutex
	timer *time.Timer
	over  bool
	late  atomic.Bool
}

func (k *call) watch(d time.Duration) *headTimer {
	h, abort := new(headTimer), k.c.abort
	begin := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.over {
			h.timer = time.AfterFunc(d, func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				if !h.over { // or the connection may be another request's by now
					h.late.Store(true)
					abort()
				}
			})
		}
	}
	if bodiless(k.req) {
		begin()
	} else {
		k.c.uploaded = begin
	}
	return h
}

func (h *headTimer) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.timer != nil {
		h.timer.Stop()
	}
}

// gunzip reads an answer that was compressed because this transport asked for it.
type gunzip struct {
	body io.ReadCloser
	z    *gzip.Reader
	err  error
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.z == nil && g.err == nil {
		g.z, g.err = gzip.NewReader(bufio.NewReader(g.body))
	}
	if g.err != nil {
		return 0, g.err
	}
	return g.z.Read(p)
}

func (g *gunzip) Close() error {
	g.err = errClosed
	return g.body.Close()
}
