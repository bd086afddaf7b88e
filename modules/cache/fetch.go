package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/cache/store"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// apart is for how long answers to a key are taken to be for one client each
// once one was.
const apart = 10 * time.Second

// fetch asks the upstream, on the request's own goroutine. With a flight it
// leads that flight, and goes on without its own client for as long as others
// read.
func (v *visit) fetch(f *store.Flight) error {
	ctx, done := v.detach(f)
	defer done()
	rec := newRecorder(v, f)
	out := v.outbound(ctx)
	v.h.larder.purges.Want(v.url, rec.requested)
	settled := false
	defer func() {
		// A handler that panics, as reverse_proxy does when an answer breaks
		// off, ends the flight for those who wait.
		if !settled {
			rec.fail(http.ErrAbortHandler)
		}
		rec.close()
	}()
	err := v.next.ServeHTTP(rec, out)
	if err == nil && rec.mode == modeMismatch {
		rec.again()
		out.Header.Del("If-None-Match")
		out.Header.Del("If-Modified-Since")
		err = v.next.ServeHTTP(rec, out)
	}
	settled = true
	return rec.settle(ctx, err)
}

// detach returns the context of the fetch. A flight's outlives its leader's
// client for as long as somebody reads.
func (v *visit) detach(f *store.Flight) (context.Context, func()) {
	client := v.r.Context()
	if f == nil || v.quiet {
		return client, func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(client))
	f.Abandon(cancel)
	stop := context.AfterFunc(client, f.ClientLeft)
	return ctx, func() {
		stop()
		cancel()
	}
}

// outbound is the request for the handlers behind: it asks for what can be
// kept, and validates what is kept.
func (v *visit) outbound(ctx context.Context) *http.Request {
	out := v.r.WithContext(ctx)
	h := v.r.Header.Clone()
	out.Header = h
	// The client's own conditions are judged here, against the whole answer.
	h.Del("If-None-Match")
	h.Del("If-Modified-Since")
	if v.base != nil {
		if tag := v.base.Header.Get("Etag"); tag != "" {
			h.Set("If-None-Match", tag)
		}
		if at := v.base.Header.Get("Last-Modified"); at != "" {
			h.Set("If-Modified-Since", at)
		}
	}
	if k := v.h.Key; k.filters() && out.URL.RawQuery != "" {
		u := *out.URL
		u.RawQuery = k.filter(u.RawQuery)
		out.URL = &u
		out.RequestURI = u.RequestURI()
	}
	return out
}

// failing are the answers that stale-if-error takes for an error (RFC 5861 section 4).
func failing(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func failed(err error) bool {
	status := http.StatusInternalServerError
	if ref := reject.From(err); ref != nil {
		status = ref.Status
	} else if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		status = he.StatusCode
	}
	return failing(status)
}

// pass lets the request through unkept. One that may change things strikes
// what is kept of them.
func (v *visit) pass(why string) error {
	v.note("bypass", why)
	w := v.w
	forward := "bypass"
	if why == "method" {
		forward = "method"
	}
	addStatus(w.Header(), statusForward(forward, why))
	if safe(v.r.Method) {
		return v.next.ServeHTTP(w, v.r)
	}
	watch := &writeWatch{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, v: v}
	err := v.next.ServeHTTP(watch, v.r)
	if err == nil && !watch.seen {
		v.invalidate(w.Header()) // the server will make a 200 of it
	}
	return err
}

func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// writeWatch sees the status of an answer to a write.
type writeWatch struct {
	caddyhttp.ResponseWriterWrapper
	v    *visit
	seen bool
}

func (w *writeWatch) WriteHeader(status int) {
	if status >= 200 && !w.seen {
		w.seen = true
		if status < 400 {
			w.v.invalidate(w.Header())
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writeWatch) Write(p []byte) (int, error) {
	if !w.seen {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom sends the header if there was none.
func (w *writeWatch) ReadFrom(r io.Reader) (int64, error) {
	if !w.seen {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError sends the header if there was none.
func (w *writeWatch) FlushError() error {
	if !w.seen {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// invalidate strikes the target of a write that went well, and what its answer
// points to on the same origin (RFC 9111 section 4.4).
func (v *visit) invalidate(h http.Header) {
	if v.url == "" && !v.name() {
		return
	}
	// The upstream has answered; what was asked for until now may be old.
	now := time.Now()
	v.touch(v.url, now)
	for _, field := range [...]string{"Location", "Content-Location"} {
		if target := v.relative(h.Get(field)); target != "" && target != v.url {
			v.touch(target, now)
		}
	}
}

func (v *visit) touch(url string, now time.Time) {
	if v.h.larder.purges.Touch(url, now) {
		purged.WithLabelValues(v.h.Name, "url", "write").Inc()
	}
	v.strikeSecond(url, v.h.larder.peers.Load())
}

// strikeSecond drops what Redis keeps of url, in the background.
func (v *visit) strikeSecond(url string, p *peers) {
	if s := v.h.second; s != nil && !v.h.keeper.send(func(ctx context.Context) { s.strike(ctx, url, p) }) {
		secondTier.WithLabelValues(s.name, "dropped").Inc()
	}
}

// relative resolves ref against the request's URL; empty if it leads to
// another origin.
func (v *visit) relative(ref string) string {
	if ref == "" {
		return ""
	}
	base, err := url.Parse(v.url)
	if err != nil {
		return ""
	}
	u, err := base.Parse(ref)
	if err != nil || u.Scheme != base.Scheme || u.Host != base.Host {
		return ""
	}
	b := append([]byte(nil), u.Scheme+"://"+u.Host...)
	return string(v.h.Key.appendTarget(b, u))
}

// keep says whether an answer may be kept, and its term.
func (v *visit) keep(a freshness.Answer) (freshness.Term, freshness.Why) {
	if v.r.Method != http.MethodGet {
		return freshness.Term{}, freshness.WhyMethod
	}
	t := v.h.rules.Judge(a)
	return t, v.h.rules.Keep(a, t, v.authenticated)
}

// object makes what is kept of an answer, but for its body.
func (v *visit) object(a freshness.Answer, t freshness.Term, h http.Header, cost time.Duration) *store.Object {
	o := &store.Object{
		URL: v.url, Key: v.key, Status: a.Status, Header: h,
		Vary: freshness.VaryNames(a.Header), Tags: v.tags(a.Header),
		Requested: a.Requested, Received: a.Received,
		Age: t.Age, Lifetime: t.Lifetime,
		StaleWhileRevalidate: t.StaleWhileRevalidate, StaleIfError: t.StaleIfError,
		Validate: t.Validate, Strict: t.Strict, Shared: t.Shared, Cost: cost,
	}
	if len(o.Vary) > 0 {
		o.Selected = string(freshness.AppendSelected(nil, o.Vary, v.r.Header))
	}
	if _, dated := h["Date"]; !dated {
		h["Date"] = []string{a.Received.UTC().Format(http.TimeFormat)} // RFC 9110 section 6.6.1
	}
	o.Count()
	return o
}

const mostTags = 128

func (v *visit) tags(h http.Header) (tags []string) {
	for _, field := range v.h.Tags {
		for _, line := range h[field] {
			for tag := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' }) {
				if len(tags) < mostTags {
					tags = append(tags, tag)
				}
			}
		}
	}
	return tags
}
