package cache

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/cache/store"
)

// settle ends a fetch: it keeps what came in, or lets another answer speak.
func (c *recorder) settle(ctx context.Context, err error) error {
	v := c.v
	if err != nil {
		if !c.begun && v.candidate != nil && ctx.Err() == nil && failed(err) {
			c.fail(err)
			return v.standIn("error")
		}
		c.fail(err)
		if !c.begun && !v.stood {
			v.note("miss", "error")
		}
		return err
	}
	switch c.mode {
	case modeFailed:
		c.fail(errUpstream)
		return v.standIn("error")
	case modeUnfaithful:
		c.fail(errUnfaithful)
		v.h.unfaithful.Store(true)
		return fmt.Errorf("%w: {%s}", errUnfaithful, v.missed)
	case modeValidated:
		return c.validated()
	case modeKeep:
		return c.landed(ctx)
	case modeMismatch: // twice: whatever is kept is of no use here
		c.fail(errUpstream)
		return errMismatch
	}
	c.passed()
	return nil
}

// passed ends an answer that is not kept.
func (c *recorder) passed() {
	c.fail(nil)
	if c.begun {
		c.trailers()
		c.afterHead()
		return
	}
	// Nothing was written: the server makes an empty answer of the header.
	if !c.v.stood {
		c.announce()
	}
	clear(c.front)
	for k, vs := range c.header {
		c.front[k] = vs
	}
}

// landed keeps the answer if all of it came in.
func (c *recorder) landed(ctx context.Context) error {
	v := c.v
	switch {
	case !c.complete(ctx):
		c.why = whyIncomplete
		c.fail(http.ErrAbortHandler)
		if c.lagging {
			panic(http.ErrAbortHandler) // the client must not take what it has for all
		}
		return nil
	case c.why != freshness.Kept:
		c.flight.End(store.Landed, nil)
		c.trailers()
		return nil
	}
	o := *c.object
	o.Body = c.flight.Body()
	v.put(&o)
	v.toSecond(&o)
	c.flight.Land(&o)
	c.flight.End(store.Landed, nil)
	c.catchUp(c.size)
	c.trailers()
	return nil
}

// catchUp sends a slow client what it lacks.
func (c *recorder) catchUp(size int64) {
	if !c.lagging || c.gone {
		return
	}
	c.lagging = false
	if err := c.flight.Body().WriteRange(c.v.w, c.sent, size-c.sent); err != nil {
		c.gone = true
	}
	c.sent = size
}

// confirms says whether a 304 with header h speaks of o (RFC 9111 section 4.3.4).
func confirms(h http.Header, o *store.Object) bool {
	if tag, kept := h.Get("Etag"), o.Header.Get("Etag"); strings.HasPrefix(tag, "W/") {
		return weak(tag) == weak(kept)
	} else if tag != "" {
		return tag == kept
	}
	if at := h.Get("Last-Modified"); at != "" && o.Header.Get("Etag") == "" {
		return at == o.Header.Get("Last-Modified")
	}
	return true
}

// validated brings what is kept up to date with the 304 and answers with it.
func (c *recorder) validated() error {
	v, base := c.v, c.v.base
	own := c.own()
	a := freshness.Answer{
		Status: base.Status, Header: merged(base.Header, own),
		Requested: c.requested, Received: c.received,
	}
	if _, dated := own["Date"]; !dated {
		a.Header.Del("Date")
	}
	term, why := v.keep(a)
	o := v.object(a, term, keepable(a.Header), base.Cost)
	o.Body = base.Body
	if v.r.Method == http.MethodHead {
		_, why = v.h.rules.Judge(a), freshness.Kept
		o.Vary, o.Selected = base.Vary, base.Selected
	}
	if why == freshness.Kept {
		v.h.larder.memory.Swap(base, o)
		v.toSecond(o)
	} else {
		v.h.larder.memory.Remove(base)
		v.strikeSecond(v.url, nil)
	}
	if c.flight != nil {
		if why == freshness.Kept {
			c.flight.Land(o)
			c.flight.End(store.Landed, nil)
		} else {
			c.flight.End(store.Apart, nil)
		}
	}
	v.h.meter.save(base.Cost)
	v.found, v.left = o, o.Left(v.now)
	return v.answer(o, "revalidated")
}

// fixed are the fields of a kept answer that a 304 must not change: by them the
// kept body is to be read (RFC 9111 section 3.2).
var fixed = []string{"Content-Length", "Content-Encoding", "Content-Range"}

func merged(kept, update http.Header) http.Header {
	h := kept.Clone()
	delete(h, "Age")
	for k, vs := range update {
		if !slices.Contains(fixed, k) {
			h[k] = slices.Clone(vs)
		}
	}
	return h
}

// afterHead compares the answer to a HEAD with what is kept of the same thing
// (RFC 9111 section 4.3.5): one that differs makes it stale.
func (c *recorder) afterHead() {
	v := c.v
	if v.r.Method != http.MethodHead || v.found == nil || c.status != http.StatusOK || v.stood {
		return
	}
	for _, field := range [...]string{"Etag", "Last-Modified", "Content-Length"} {
		got := c.header.Get(field)
		if got != "" && got != v.found.Header.Get(field) {
			v.h.larder.purges.URL(v.url, c.received, true)
			return
		}
	}
}

// hop are fields for one connection or one proxy (RFC 9111 section 3.1), and
// those that this cache makes anew.
var hop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Te", "Trailer", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
	"Alt-Svc",
}

// keepable takes from h what is not to be kept.
func keepable(h http.Header) http.Header {
	for _, line := range h["Connection"] {
		dropNamed(h, line)
	}
	for _, k := range hop {
		delete(h, k)
	}
	for k := range h {
		if len(k) > len(http.TrailerPrefix) && k[:len(http.TrailerPrefix)] == http.TrailerPrefix {
			delete(h, k)
		}
	}
	return h
}
