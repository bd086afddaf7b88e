package telemetry

import (
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective("telemetry", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("telemetry", httpcaddyfile.Before, "map")
}

// Handler measures the requests that pass it, and traces them where an export
// is configured. The route that names a span and labels the metrics is read
// from the configuration: the host and the path matcher of the route that
// answers, never the path that was asked for.
//
// Placeholder | Meaning
// ------------|--------
// `{sallyport.route}` | The route, such as `api.example.com/orders/*`
// `{sallyport.trace_id}` | Id of the trace, empty where none is exported
type Handler struct {
	// Route names the route instead. A handler behind another one names the
	// requests of its own part of the configuration.
	Route string `json:"route,omitempty"`
	// Trust says whose trace context is continued here, in place of the
	// app's `trust_traceparent`.
	Trust []string `json:"trust_traceparent,omitempty"`

	app     *App
	trust   trust
	subject labeller
	ctx     caddy.Context

	once  sync.Once // guards the making of table
	table *table
	named *route
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.telemetry", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app, which need not be configured: the environment may
// hold everything.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := exchange.Muster(ctx); err != nil {
		return err
	}
	app, err := ctx.App("sallyport_telemetry")
	if err != nil {
		return err
	}
	h.ctx, h.app = ctx, app.(*App)
	h.trust = h.app.settings.trust
	if len(h.Trust) > 0 {
		e := environment{}
		h.trust = e.trust(h.Trust)
		if e.err != nil {
			return e.err
		}
	}
	if h.subject, err = newLabeller(h.app.Subject); err != nil {
		return err
	}
	if h.Route != "" {
		h.named = newRoute(h.Route, "")
	}
	return instrument.Register(ctx.GetMetricsRegistry(), collectors()...)
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (err error) {
	x := exchange.Of(r)
	if outer, ok := x.Watch.(*passage); ok {
		outer.name(h.named)
		return next.ServeHTTP(w, r)
	}
	p := &passage{h: h, x: x}
	p.ResponseWriter = w
	p.open(r)
	returned := false
	// A broken stream makes reverse_proxy panic: it is counted and goes on.
	defer func() { p.close(r, err, !returned) }()
	err = next.ServeHTTP(p, r)
	returned = true
	return err
}

// routes reads the configuration on first use, when all of it is there.
func (h *Handler) routes() *table {
	h.once.Do(func() { h.table = tableOf(h.ctx, h) })
	return h.table
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
