// Package health is the pulse: is this process alive, is it ready, and if not,
// why. It finds its peers by the method Ready and imports none of them.
package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective("health", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("health", httpcaddyfile.Before, "tracing")
}

// Handler answers the probes of an orchestrator and passes everything else on.
// Liveness asks the process only. Readiness asks every part of the running
// configuration that has an opinion, and turns false the moment shutdown
// begins, while listeners still answer.
type Handler struct {
	// Live is the path of the liveness probe. Default: /health/live.
	Live string `json:"live,omitempty"`
	// Ready is the path of the readiness probe. Default: /health/ready.
	Ready string `json:"ready,omitempty"`
	// Required are the checks without which this instance is not ready,
	// whatever they say about themselves. Default: `issuers`, which itself
	// asks for keys only until it had them once. `upstreams` requires at least
	// one upstream of every breaker, `upstreams:<breaker>` of that one.
	Required []string `json:"required,omitempty"`
	// Degraded are the checks that never make this instance unready. Default:
	// all that are not required: one outage must not take every instance out
	// of service.
	Degraded []string `json:"degraded,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.health",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and registers the metrics.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := exchange.Muster(ctx); err != nil {
		return err
	}
	if h.Live == "" {
		h.Live = "/health/live"
	}
	if h.Ready == "" {
		h.Ready = "/health/ready"
	}
	return instrument.Register(ctx.GetMetricsRegistry(), dependencies{})
}

// Validate refuses policies that contradict themselves.
func (h *Handler) Validate() error {
	if h.Live == h.Ready {
		return fmt.Errorf("health: live and ready are both at %s", h.Live)
	}
	return h.policy()
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return next.ServeHTTP(w, r)
	}
	switch r.URL.Path {
	case h.Live:
		return answer(w, r, http.StatusOK, report{Status: "alive"})
	case h.Ready:
		rep := h.readiness(r)
		status := http.StatusOK
		if rep.Status != ready && rep.Status != degraded {
			status = http.StatusServiceUnavailable
		}
		return answer(w, r, status, rep)
	}
	return next.ServeHTTP(w, r)
}

// readiness is never taken from the cache where shutdown is concerned.
func (h *Handler) readiness(r *http.Request) report {
	if caddy.Exiting() || shuttingDown(r) {
		return report{Status: "draining", Reason: "shutdown has begun; requests in flight are still served"}
	}
	results, running := pulse.check(r.Context())
	if !running {
		return report{Status: "starting", Reason: "no configuration is running yet"}
	}
	return h.judge(results)
}

func shuttingDown(r *http.Request) bool {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	value, _ := repl.Get("http.shutting_down")
	down, _ := value.(bool)
	return down
}

func answer(w http.ResponseWriter, r *http.Request, status int, rep report) error {
	text, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
