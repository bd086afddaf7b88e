package cache

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/cache/store"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// visit is one request's way through the cache.
type visit struct {
	h    *Handler
	w    http.ResponseWriter
	r    *http.Request
	next caddyhttp.Handler
	card *exchange.Exchange
	now  time.Time

	url, key string
	// wants is the request's own Cache-Control.
	wants freshness.Directives
	// authenticated says that the request carries credentials that its key
	// does not.
	authenticated bool

	// found is the kept answer that the request selects, and left how much of
	// its lifetime is left. Nil: there is none.
	found *store.Object
	left  time.Duration
	// vary is set where an object is kept under the key that other requests select.
	vary bool
	// base is what a fetch asks the upstream to validate; candidate may stand
	// in for its answer should it fail.
	base, candidate *store.Object
	// stood says that the candidate has answered.
	stood bool
	// hinted lists fields that choose between answers to this key, as far as
	// an earlier answer told.
	hinted []string
	// quiet is set where nobody waits for the answer.
	quiet bool
	// over ends what is due, once what it has brought is kept. Nil: nothing is.
	over func()
	// missed is a placeholder that a handler behind asked for and that a
	// request in the background cannot know.
	missed string
}

// passes says why the request is none of the cache's business, if so.
func (v *visit) passes() string {
	r := v.r
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return "method"
	case r.Context().Value(caddyhttp.ErrorCtxKey) != nil:
		return "error-route"
	case len(r.Header["Upgrade"]) > 0:
		return "upgrade"
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		return "grpc"
	case hasContent(r):
		// The body is no part of the key, and some servers heed it.
		return "body"
	case overridden(r.Header):
		return "override"
	case len(r.Header["If-Match"]) > 0 || len(r.Header["If-Unmodified-Since"]) > 0:
		return "precondition"
	}
	if v.h.ClientDirectives != "ignore" {
		v.wants = clientWants(r.Header)
		if v.wants.Has(freshness.NoStore) {
			return "request-no-store"
		}
	}
	if !v.name() {
		return "key"
	}
	known := v.card.Identity.Subject != ""
	v.authenticated = (known || len(r.Header["Authorization"]) > 0) && !(known && v.h.Key.Identity)
	return ""
}

// hasContent says whether r has a body. Over HTTP/3, and over HTTP/2 where the
// stream was left open, that is not known before the body is read.
func hasContent(r *http.Request) bool {
	if r.ContentLength >= 0 || len(r.TransferEncoding) > 0 || r.Body == nil {
		return r.ContentLength > 0 || len(r.TransferEncoding) > 0
	}
	var first [1]byte
	n, err := io.ReadFull(r.Body, first[:])
	if err == io.EOF {
		r.ContentLength = 0
		return false
	}
	r.Body = &begun{ReadCloser: r.Body, first: first[:n]}
	return true
}

// begun is a body of which the first bytes were read already.
type begun struct {
	io.ReadCloser
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.ReadCloser.Read(p)
}

// clientWants reads what the request says. Pragma counts where there is no
// Cache-Control (RFC 9111 section 5.4).
func clientWants(h http.Header) freshness.Directives {
	if lines := h["Cache-Control"]; len(lines) > 0 {
		return freshness.Parse(lines)
	}
	for _, line := range h["Pragma"] {
		if strings.Contains(strings.ToLower(line), "no-cache") {
			return freshness.Directives{Flags: freshness.NoCache | freshness.Any}
		}
	}
	return freshness.Directives{}
}

// use is what a kept answer is good for.
type use int

const (
	useNone use = iota
	useFresh
	// useStale answers at once because the client wants it so.
	useStale
	// useWhile answers at once and fetches a newer one in the background.
	useWhile
	// useValidate asks the upstream whether it is still right.
	useValidate
)

// look finds the kept answer that the request selects.
func (v *visit) look() use {
	variants := v.h.larder.memory.Get(v.key)
	v.found = v.pick(variants)
	if len(variants) > 0 {
		v.hinted = variants[0].Vary
	}
	if v.found == nil {
		return useNone
	}
	return v.judge()
}

// pick returns the newest variant that the request selects and no purge struck
// (RFC 9111 section 4).
func (v *visit) pick(variants []*store.Object) (best *store.Object) {
	var room [256]byte
	for _, o := range variants {
		if len(o.Vary) > 0 {
			if string(freshness.AppendSelected(room[:0], o.Vary, v.r.Header)) != o.Selected {
				v.vary = true
				continue
			}
		}
		if v.authenticated && !o.Shared {
			continue
		}
		verdict := v.h.larder.purges.Judge(o)
		if verdict == store.Gone || best != nil && !o.Made().After(best.Made()) {
			continue
		}
		best, v.left = o, o.Left(v.now)
		if verdict == store.Stale {
			v.left = min(v.left, -1)
		}
	}
	return best
}

// judge says what v.found is good for (RFC 9111 sections 4.2 and 5.2.1).
func (v *visit) judge() use {
	o, d := v.found, &v.wants
	age := o.Lifetime - v.left
	switch {
	case o.Validate || d.Has(freshness.NoCache),
		d.Has(freshness.HasMaxAge) && age > d.MaxAge && !(d.Has(freshness.HasMaxStale) && v.left <= 0),
		d.Has(freshness.HasMinFresh) && v.left < d.MinFresh:
		return useValidate
	case v.left > 0:
		return useFresh
	case d.Has(freshness.HasMaxStale) && !o.Strict && -v.left <= d.MaxStale:
		return useStale
	case -v.left < o.StaleWhileRevalidate:
		return useWhile
	}
	return useValidate
}

// standby says whether v.found may stand in for an upstream that fails.
func (v *visit) standby() bool {
	o := v.found
	return o != nil && !o.Validate && !v.wants.Has(freshness.NoCache) && -v.left < o.StaleIfError
}

func (v *visit) serve() error {
	switch v.look() {
	case useFresh:
		return v.answer(v.found, "hit")
	case useStale:
		return v.answer(v.found, "stale")
	case useWhile:
		v.refresh()
		return v.answer(v.found, "stale")
	}
	if v.wants.Has(freshness.OnlyIfCached) {
		switch v.fromSecond() {
		case useFresh:
			return v.answer(v.found, "hit")
		case useStale, useWhile:
			return v.answer(v.found, "stale")
		}
		return v.refuse()
	}
	v.prepare()
	if !v.together() {
		return v.lead(nil)
	}
	return v.join()
}

// prepare lays out what a fetch may use of the kept answer.
func (v *visit) prepare() {
	v.base, v.candidate = nil, nil
	if v.found == nil {
		return
	}
	if v.found.Header.Get("Etag") != "" || v.found.Header.Get("Last-Modified") != "" {
		v.base = v.found
	}
	if v.standby() {
		v.candidate = v.found
		v.card.Stale = (*standIn)(v)
	}
}

// together says whether the request may share a fetch with others.
func (v *visit) together() bool {
	return !v.h.alone && v.r.Method == http.MethodGet && len(v.r.Header["Range"]) == 0 &&
		!v.wants.Has(freshness.NoCache) && !v.wants.Has(freshness.HasMaxAge|freshness.HasMinFresh)
}
