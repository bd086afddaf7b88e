package flags

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective("flags", parseDirective)
	// In front of all that may use a placeholder, and of `problem`, so that the
	// status is the one that the client sees.
	httpcaddyfile.RegisterDirectiveOrder("flags", httpcaddyfile.Before, "vars")
}

// Handler stands in front of a route whose requests flags decide about. It sets
// the cookie by which anonymous callers are told apart, tells the controllers of
// flags how requests end, and measures requests by variant. It evaluates
// nothing itself.
type Handler struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.flags", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the flags.
func (h *Handler) Provision(ctx caddy.Context) (err error) {
	h.app, err = use(ctx, "directive 'flags'")
	return err
}

// ServeHTTP passes the request on and looks at how it ends.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	v := h.app.visitOf(r)
	began := time.Now()
	rec := &recorder{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, visit: v}
	whole := false
	// The proxy panics where an answer breaks off.
	defer func() {
		v.finished(rec.status, grpcStatus(r, rec.Header()), time.Since(began), whole && r.Context().Err() == nil)
	}()
	err := next.ServeHTTP(rec, r)
	if whole = true; err != nil && rec.status == 0 {
		rec.setCookie() // the error's answer is written further out
		rec.status = http.StatusInternalServerError
		if e, ok := err.(caddyhttp.HandlerError); ok && e.StatusCode != 0 {
			rec.status = e.StatusCode
		}
	}
	return err
}

// recorder sets the cookie with the head of the answer and remembers its status.
type recorder struct {
	*caddyhttp.ResponseWriterWrapper
	visit  *visit
	status int
	cooked bool
}

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		rec.status = status
		rec.setCookie()
	}
	rec.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (rec *recorder) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	return rec.ResponseWriterWrapper.Write(b)
}

// ReadFrom implements io.ReaderFrom, by which bodies are copied fast.
func (rec *recorder) ReadFrom(body io.Reader) (int64, error) {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	return rec.ResponseWriterWrapper.ReadFrom(body)
}

const cookieAge = 365 * 24 * time.Hour

func (rec *recorder) setCookie() {
	if rec.cooked || rec.visit.fresh == "" {
		return
	}
	rec.cooked = true
	http.SetCookie(rec, &http.Cookie{
		Name: rec.visit.app.Context.Cookie, Value: rec.visit.fresh, Path: "/", MaxAge: int(cookieAge / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: rec.visit.r.TLS != nil,
	})
}

// finished measures the request by each variant that it was given, and tells
// the flags' controllers.
func (v *visit) finished(status int, grpc string, took time.Duration, whole bool) {
	for i := range v.seen {
		g := &v.seen[i]
		if g.variant == "" {
			continue
		}
		requestSeconds.With(prometheus.Labels{
			"flag": g.meter.label, "variant": g.meter.labelOf(g.variant), "outcome": outcomeOf(v.x, status, grpc, whole),
		}).Observe(took.Seconds())
		if c := v.app.controllers[g.flag]; c != nil {
			c.Finished(Outcome{Variant: g.variant, Split: g.split, Status: status, GRPC: grpc, Took: took, Aborted: !whole, Exchange: v.x})
		}
	}
}

// grpcStatus is the status of the answer to a gRPC call, which stands in its
// trailers, or in its head where it has no body.
func grpcStatus(r *http.Request, h http.Header) string {
	if r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return ""
	}
	for _, name := range [...]string{"Grpc-Status", http.TrailerPrefix + "Grpc-Status"} {
		if v := h[name]; len(v) > 0 {
			return v[0]
		}
	}
	return "2" // UNKNOWN: the call broke off without a status
}

// GRPCFault says whether a gRPC status is the service's fault: UNKNOWN,
// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS.
func GRPCFault(status string) bool {
	switch status {
	case "2", "4", "13", "14", "15":
		return true
	}
	return false
}

func outcomeOf(x *exchange.Exchange, status int, grpc string, whole bool) string {
	switch {
	case !whole:
		return "aborted"
	case status >= 500 || GRPCFault(grpc):
		return "error"
	case x.Refusal.Code != "":
		return "refused"
	}
	return "ok"
}

// parseDirective sets up the handler. Syntax:
//
//	flags [<matcher>]
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	if h.NextArg() {
		return nil, h.Errf("flags takes no argument here, got '%s'; where flags come from stands in the global option", h.Val())
	}
	if h.NextBlock(0) {
		return nil, h.Err("flags takes no block here; where flags come from stands in the global option")
	}
	return new(Handler), nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
