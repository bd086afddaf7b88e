package cache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// refresh has v.found revalidated in the background. A request that cannot be
// told again without its client is left alone: the answer then goes stale and
// a request in the foreground validates it.
func (v *visit) refresh() {
	if v.h.keeper == nil || v.h.unfaithful.Load() || v.h.keeper.busy(v.key+v.found.Selected) {
		return
	}
	if b := v.again(); b != nil {
		v.h.keeper.offer(b)
	}
}

// again returns a visit that asks the same in its own right. It is made on the
// client's goroutine and shares nothing with the client's request that either
// side writes: its header, URL, variables, replacer and card are its own. Nil
// where the request has variables of which no copy can be made.
func (v *visit) again() *visit {
	r := v.r.Clone(context.Background())
	r.Body, r.ContentLength, r.TransferEncoding = http.NoBody, 0, nil
	r.Method = http.MethodGet
	r.Header.Del("Range")
	r.Header.Del("If-Range")

	// Placeholders of the original request come from what is prepared, those of
	// the request from what it is rewritten to afterwards, in place.
	rewritten := *r.URL
	if original, ok := v.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		*r.URL, r.RequestURI = *original.URL, original.RequestURI
	}
	server, _ := v.r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	w := new(nowhere)
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, server)
	*r.URL, r.RequestURI = rewritten, v.r.RequestURI
	if !copyVars(r.Context(), v.r.Context()) {
		return nil
	}
	b := &visit{
		h: v.h, w: w, r: r, next: v.next, quiet: true,
		url: v.url, key: v.key, authenticated: v.authenticated,
		found: v.found, left: v.left, hinted: v.hinted,
	}
	b.card = exchange.Of(r)
	b.card.Identity = v.card.Identity
	repl.Map(identity(v.card.Identity))
	// Asked last: what reaches it, nobody else knew. A handler in front of the
	// cache set it, and the upstream would be asked something else without it.
	repl.Map(func(name string) (any, bool) {
		b.missed = name
		return nil, false
	})
	return b
}

// nowhere is the writer of a request without a client.
type nowhere struct{ header http.Header }

func (w *nowhere) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}
func (*nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (*nowhere) WriteHeader(int)             {}

// copyVars copies the request variables that are plain values. It says false
// where there is one that is not and that it does not know.
func copyVars(to, from context.Context) bool {
	fresh, ok := to.Value(caddyhttp.VarsCtxKey).(map[string]any)
	old, known := from.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok || !known {
		return ok == known
	}
	for name, value := range old {
		switch value.(type) {
		case string, bool, int, int64, uint64, float64, nil:
			fresh[name] = value
		default:
			if !strings.HasPrefix(name, "sallyport.") && fresh[name] == nil {
				return false
			}
		}
	}
	return true
}

// identity answers for the placeholders of the verified caller.
func identity(id exchange.Identity) caddy.ReplacerFunc {
	return func(name string) (any, bool) {
		claim, ok := strings.CutPrefix(name, "http.auth.user.")
		switch {
		case !ok || id.Subject == "":
			return nil, false
		case claim == "id":
			return id.Subject, true
		case id.Claims == nil:
			return nil, false
		}
		return id.Claims.Claim(claim)
	}
}

// revalidate fetches what v stands for, on the worker's goroutine.
func (v *visit) revalidate(ctx context.Context) {
	ctx, cancel := context.WithCancel(&within{Context: v.r.Context(), owner: ctx})
	defer cancel()
	v.r = v.r.WithContext(ctx)
	v.now = time.Now()
	f, _, leads := v.h.larder.flights.Join(v.flightKey(), 0, v.h.MaxObject)
	if !leads {
		return // a client's request is at it
	}
	v.base = nil
	v.prepare()
	v.candidate, v.card.Stale = nil, nil
	if err := v.guarded(func() error { return v.fetch(f) }); err != nil {
		v.h.meter.backgroundFailed.Inc()
		v.h.logger.Debug("revalidation failed; the stale answer is kept", zap.Error(err), zap.String("url", path(v.url)))
		return
	}
	v.h.meter.backgroundDone.Inc()
}

// within has the values of a request and the end of its owner.
type within struct {
	context.Context
	owner context.Context
}

func (w *within) Deadline() (time.Time, bool) { return w.owner.Deadline() }
func (w *within) Done() <-chan struct{}       { return w.owner.Done() }
func (w *within) Err() error                  { return w.owner.Err() }

var errUnfaithful = errors.New("the request depends on a placeholder that only its client's goroutine knows")

// guarded keeps a panic of the handlers behind from ending the worker.
func (v *visit) guarded(f func() error) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errors.New("the answer broke off")
		default:
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// path is what logs say of a URL: queries may hold secrets.
func path(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.RawQuery = ""
	return u.String()
}
