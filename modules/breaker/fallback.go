package breaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// The kinds of fallback.
const (
	respond   = "respond"
	alternate = "alternate"
	stale     = "stale"
)

// Fallback is an answer in the upstream's place.
type Fallback struct {
	// Kind is `respond`, a fixed answer, `alternate`, another handler, or `stale`,
	// what a cache in front keeps past its time and may use when all else fails.
	Kind string `json:"kind"`

	// Response is the answer of `respond`, as of the `static_response` handler.
	// Its status is 503 unless it says otherwise. gRPC callers, who could not
	// read it, get the next fallback or the refusal.
	Response *caddyhttp.StaticResponse `json:"response,omitempty"`

	// HandleRaw is the handler of `alternate`, such as a `reverse_proxy` to
	// another pool. It is passed over for a request whose body an upstream has
	// begun to read, and where it returns an error the next fallback answers.
	HandleRaw json.RawMessage `json:"handle,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	// Concurrency is how many requests `alternate` may serve at a time: what
	// stands in for a broken upstream must not break as well. Default: 64.
	Concurrency int `json:"concurrency,omitempty"`

	handler caddyhttp.MiddlewareHandler
	busy    atomic.Int64
}

func (f *Fallback) provision(ctx caddy.Context) error {
	switch f.Kind {
	case respond:
		if f.Response == nil {
			return errors.New("kind respond needs a response")
		}
		if f.HandleRaw != nil || f.Concurrency != 0 {
			return errors.New("kind respond takes neither handle nor concurrency")
		}
		def(&f.Response.StatusCode, "503")
	case alternate:
		if f.HandleRaw == nil || f.Response != nil {
			return errors.New("kind alternate needs a handle and takes no response")
		}
		if f.Concurrency < 0 {
			return fmt.Errorf("concurrency takes 1 or more, got %d", f.Concurrency)
		}
		def(&f.Concurrency, 64)
		mod, err := ctx.LoadModule(f, "HandleRaw")
		if err != nil {
			return fmt.Errorf("load handler: %w", err)
		}
		f.handler = mod.(caddyhttp.MiddlewareHandler)
	case stale:
		// A cache on the route was provisioned before this handler.
		if _, err := ctx.AppIfConfigured("sallyport_cache"); err != nil {
			return errors.New("kind stale needs a cache on the route, before breaker_proxy, and there is none")
		}
	default:
		return fmt.Errorf("kind takes respond, alternate or stale, got '%s'", f.Kind)
	}
	return nil
}

// serve answers r. It says no when this fallback cannot.
func (f *Fallback) serve(h *Handler, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, touched bool) bool {
	result := "served"
	defer func() { fallbacksTotal.WithLabelValues(h.Policy.Name, f.Kind, result).Inc() }()
	if f.Kind == stale {
		kept := exchange.Of(r).Stale
		if kept == nil {
			result = "none_kept"
			return false
		}
		if err := kept.Serve(w, r); err != nil {
			result = "failed"
			return false
		}
		return true
	}
	if f.Kind == respond {
		if err := f.Response.ServeHTTP(w, r, next); err != nil {
			result = "failed"
			return false
		}
		return true
	}
	if touched {
		result = "body_gone"
		return false
	}
	if f.busy.Add(1) > int64(f.Concurrency) {
		f.busy.Add(-1)
		result = "busy"
		return false
	}
	defer f.busy.Add(-1)
	if err := f.handler.ServeHTTP(w, r, next); err != nil {
		result = "failed"
		return false
	}
	return true
}
