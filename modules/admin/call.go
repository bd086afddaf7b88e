package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// call is one request on its way to the endpoint and back.
type call struct {
	audit.Call
	h      *Handler
	began  time.Time
	before []byte
	body   *hashed
}

func (c *call) changes() bool {
	switch c.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

// pass makes the call. Its outcome is recorded when the status is known and
// before the caller hears of it.
func (c *call) pass(w http.ResponseWriter, r *http.Request) error {
	c.body = &hashed{ReadCloser: r.Body, sum: sha256.New()}
	r.Body = c.body
	o := &outcome{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, c: c}
	defer audit.Fronted()()
	c.h.proxy.ServeHTTP(o, r)
	return o.refused
}

// conclude records the outcome.
func (c *call) conclude(status int) error {
	c.Status, c.Took = status, time.Since(c.began)
	c.BodyHash, c.BodyBytes = c.body.digest()
	if c.before != nil {
		if after := c.config(context.WithoutCancel(c.Request.Context())); after != nil {
			c.Before, c.After = audit.ConfigHash(c.before), audit.ConfigHash(after)
			if c.Before != c.After {
				c.Changes, c.More = audit.Changes(c.before, after)
			}
		}
	}
	return c.h.app.Conclude(&c.Call)
}

// config returns the active configuration, or nil if it cannot be read.
func (c *call) config(ctx context.Context) []byte {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	text, err := c.h.api.Config(ctx)
	if err != nil {
		c.h.logger.Warn("the configuration cannot be read; the call is recorded without its effect", zap.Error(err))
		return nil
	}
	return text
}

// hashed counts and hashes a body as it is read. The endpoint may answer before
// it has read all of the body, and the transport then still reads.
type hashed struct {
	io.ReadCloser

	mu  sync.Mutex // guards the rest
	sum hash.Hash
	n   int64
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sum.Write(p[:n])
	h.n += int64(n)
	return n, err
}

// digest returns the hash of what was read so far, and how much that is.
func (h *hashed) digest() (string, int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n == 0 {
		return "", 0
	}
	return hex.EncodeToString(h.sum.Sum(nil)), h.n
}

// outcome holds the answer back until it is on record.
type outcome struct {
	*caddyhttp.ResponseWriterWrapper
	c       *call
	done    bool
	silent  bool // the answer was replaced
	refused error
}

func (o *outcome) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		o.ResponseWriterWrapper.WriteHeader(status)
		return
	}
	if o.done {
		return
	}
	o.done = true
	if err := o.c.conclude(status); err != nil {
		o.silent = true
		clear(o.Header())
		ref := unavailable(err)
		if o.c.changes() {
			ref.Hint = "The outcome cannot be put on record. The change may have been made; read the configuration before you try again."
		}
		o.refused = reject.Refuse(o.ResponseWriterWrapper, o.c.Request, ref)
		return
	}
	o.ResponseWriterWrapper.WriteHeader(status)
}

func (o *outcome) Write(p []byte) (int, error) {
	o.WriteHeader(http.StatusOK)
	if o.silent {
		return len(p), nil
	}
	return o.ResponseWriterWrapper.Write(p)
}

func (o *outcome) ReadFrom(r io.Reader) (int64, error) {
	o.WriteHeader(http.StatusOK)
	if o.silent {
		return io.Copy(io.Discard, r)
	}
	return o.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError passes a flush on, but never before the outcome is on record.
func (o *outcome) FlushError() error {
	o.WriteHeader(http.StatusOK)
	if o.silent {
		return nil
	}
	return http.NewResponseController(o.ResponseWriter).Flush()
}
