// Package breaker is the bridge: it stands around Caddy's reverse proxy and
// knows whether each upstream is worth another try.
//
// Three modules work together. The handler owns what a request may cost: its
// place, its time, its retries, and what is answered instead. It wraps the
// proxy's selection policy, which avoids open circuits and takes a lease from
// the one that is chosen, and the proxy's transport, which records how each
// attempt ended. All of it happens on the request's own goroutine; the three
// meet in the request's crossing.
package breaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

func init() {
	caddy.RegisterModule(new(Handler))
	caddy.RegisterModule(new(Selector))
	caddy.RegisterModule(new(Transport))
}

// Handler is a reverse proxy with a circuit for each upstream.
//
// It sets the placeholders `{sallyport.upstream}`, `{sallyport.fallback}` and
// `{sallyport.fallback_reason}`, and the reverse proxy its own.
type Handler struct {
	// Policy says when circuits open and how they come back.
	Policy *Policy `json:"policy,omitempty"`

	// Timeout is how long a request may take until its answer begins, waiting and
	// retries included. A gRPC caller's own deadline holds where it is shorter,
	// and for the whole call. Default: 0, no limit.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Concurrency bounds how many requests are on their way at a time.
	// Default: no bound.
	Concurrency *Concurrency `json:"concurrency,omitempty"`

	// RetryBudget bounds the retries of the proxy's `lb_retries` and
	// `lb_try_duration`.
	RetryBudget *RetryBudget `json:"retry_budget,omitempty"`

	// Hedge sends slow requests to a second upstream. Default: none.
	Hedge *Hedge `json:"hedge,omitempty"`

	// Direct says whether plain requests to cleartext HTTP/1.1 upstreams are sent
	// and read on their own goroutine, which costs less, or all by the proxy's
	// transport: `on` or `off`. Default: `on`.
	Direct string `json:"direct,omitempty"`

	// Lean says whether plain requests are forwarded by the breaker itself, which
	// costs less still, or by reverse_proxy: `on` or `off`. It is done only where
	// it is exact, and where Direct is. Default: `on`.
	Lean string `json:"lean,omitempty"`

	// Fallbacks are tried in order when the bridge refuses a request or no
	// upstream could be reached. Default: an error, with status 503 where the
	// bridge refuses.
	Fallbacks []*Fallback `json:"fallbacks,omitempty"`

	// ProxyRaw is the configuration of the `reverse_proxy` handler, verbatim.
	ProxyRaw json.RawMessage `json:"proxy,omitempty"`

	proxy      *reverseproxy.Handler
	dynamicRaw json.RawMessage // the proxy forgets its own
	app        *App
	settings   circuit.Settings
	taken      []any               // keys of the pool
	fixed      []*tracked          // the circuits of proxy.Upstreams, in order; nil for a changing one
	byDial     map[string]*tracked // the same by address
	herd       *herd               // the circuits of changing upstreams, if there can be any
	route      *route
	// destination names all the upstreams for operators.
	destination string
	status      proxyStatus
	// retriesProbes says that the operator asked for no retries: the proxy then
	// does one, and the selection allows it to probes only.
	retriesProbes bool
	// lean forwards plain requests; nil where that is not exact, and leanNot says
	// why. policyRaw is the stock selection policy.
	lean      atomic.Pointer[lean]
	leanNot   atomic.Pointer[error]
	policyRaw json.RawMessage
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.breaker",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision builds the reverse proxy and takes its circuits.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := exchange.Muster(ctx); err != nil {
		return err
	}
	if err := h.fill(); err != nil {
		return err
	}
	for i, f := range h.Fallbacks {
		if err := f.provision(ctx); err != nil {
			return fmt.Errorf("fallback %d: %w", i+1, err)
		}
	}
	if err := reject.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	app, err := ctx.App(appName)
	if err != nil {
		return err
	}
	h.app = app.(*App)
	if err := h.provisionProxy(ctx); err != nil {
		return err
	}
	if err := h.acquireCircuits(); err != nil {
		return err
	}
	if err := h.acquireRoute(); err != nil {
		return err
	}
	if err := h.provisionLean(ctx); err != nil {
		return err
	}
	h.joinHandler()
	return nil
}

// fill sets the defaults and refuses what cannot be meant.
func (h *Handler) fill() error {
	if h.Policy == nil {
		h.Policy = new(Policy)
	}
	h.Policy.fill()
	if err := h.Policy.check(); err != nil {
		return fmt.Errorf("breaker: %w", err)
	}
	h.settings = h.Policy.settings()
	if h.Timeout < 0 {
		return fmt.Errorf("timeout cannot be negative, got %s", time.Duration(h.Timeout))
	}
	if h.Concurrency != nil {
		h.Concurrency.fill()
		if err := h.Concurrency.check(); err != nil {
			return fmt.Errorf("concurrency: %w", err)
		}
	}
	if err := errors.Join(checkSwitch("direct", h.Direct), checkSwitch("lean", h.Lean)); err != nil {
		return err
	}
	if h.RetryBudget == nil {
		h.RetryBudget = new(RetryBudget)
	}
	h.RetryBudget.fill()
	if err := h.RetryBudget.check(); err != nil {
		return fmt.Errorf("retry_budget: %w", err)
	}
	return nil
}

func (h *Handler) provisionProxy(ctx caddy.Context) error {
	wrapped, err := h.wrap()
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	mod, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", wrapped)
	if err != nil {
		return fmt.Errorf("load proxy: %w", err)
	}
	h.proxy = mod.(*reverseproxy.Handler)
	h.status = newProxyStatus(h.proxy.ProxyStatusName)
	if h.Hedge != nil {
		if err := h.Hedge.check(h.proxy); err != nil {
			return fmt.Errorf("hedge: %w", err)
		}
	}
	return check(h.proxy)
}

// check refuses what would work against the circuits.
func check(p *reverseproxy.Handler) error {
	if hc := p.HealthChecks; hc != nil && hc.Passive != nil {
		// What the circuit refuses would count as a failure of the upstream.
		passive := *hc.Passive
		if passive.FailDuration > 0 || passive.MaxFails > 1 || len(passive.UnhealthyStatus) > 0 || passive.UnhealthyLatency > 0 {
			return errors.New("passive health checks (fail_duration, max_fails, unhealthy_status, unhealthy_latency) cannot stand beside a breaker, which does their work; remove them")
		}
	}
	if p.CBRaw != nil {
		return errors.New("circuit_breaker cannot stand beside a breaker, which does its work; remove it")
	}
	return nil
}

// wrap puts our transport and selection policy around those of the proxy.
func (h *Handler) wrap() (json.RawMessage, error) {
	proxy := make(map[string]json.RawMessage)
	if err := json.Unmarshal(h.ProxyRaw, &proxy); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	delete(proxy, "handler") // so that a handler's object can be moved in as it stands
	h.dynamicRaw = proxy["dynamic_upstreams"]
	inner := proxy["transport"]
	if inner == nil {
		inner = json.RawMessage(`{"protocol":"http"}`)
	}
	transport, err := json.Marshal(map[string]any{"protocol": "breaker", "inner": inner})
	if err != nil {
		return nil, err
	}
	proxy["transport"] = transport

	lb := make(map[string]json.RawMessage)
	if old := proxy["load_balancing"]; old != nil {
		if err := json.Unmarshal(old, &lb); err != nil {
			return nil, fmt.Errorf("read load_balancing: %w", err)
		}
	}
	selection := map[string]any{"policy": "breaker"}
	if old := lb["selection_policy"]; old != nil {
		selection["inner"], h.policyRaw = old, old
	}
	if lb["selection_policy"], err = json.Marshal(selection); err != nil {
		return nil, err
	}
	if lb["retries"] == nil && lb["try_duration"] == nil {
		h.retriesProbes = true
		lb["retries"] = json.RawMessage("1")
	}
	if proxy["load_balancing"], err = json.Marshal(lb); err != nil {
		return nil, err
	}
	return json.Marshal(proxy)
}

// acquireCircuits takes a share in the circuit of each upstream.
func (h *Handler) acquireCircuits() error {
	h.byDial = make(map[string]*tracked, len(h.proxy.Upstreams))
	changes := h.proxy.DynamicUpstreams != nil
	for _, u := range h.proxy.Upstreams {
		if strings.Contains(u.Dial, "{") {
			changes = true
			h.fixed = append(h.fixed, nil)
			continue
		}
		t := h.byDial[u.Dial]
		if t == nil {
			k := key{h.Policy.Name, u.Dial}
			if err := h.app.agree(k, h.Policy); err != nil {
				return err
			}
			var err error
			if t, err = acquire(k); err != nil {
				return err
			}
			h.taken = append(h.taken, k)
			h.app.join(t)
			h.byDial[u.Dial] = t
		}
		h.fixed = append(h.fixed, t)
	}
	if !changes {
		return nil
	}
	k := key{h.Policy.Name, changing}
	if err := h.app.agree(k, h.Policy); err != nil {
		return err
	}
	herd, err := acquireHerd(h.Policy.Name)
	if err != nil {
		return err
	}
	h.taken = append(h.taken, k)
	h.herd = herd
	h.app.joinHerd(herd)
	return nil
}

// Cleanup gives the circuits back.
func (h *Handler) Cleanup() error {
	h.leaveCircuits()
	var all error
	for _, k := range h.taken {
		_, err := pool.Delete(k)
		all = errors.Join(all, err)
	}
	h.taken = nil
	return all
}

// parent finds the Handler that a transport or selection policy stands in.
func parent(ctx caddy.Context) (*Handler, error) {
	modules := ctx.Modules()
	for i := len(modules) - 1; i >= 0; i-- {
		if h, ok := modules[i].(*Handler); ok {
			return h, nil
		}
	}
	return nil, errors.New("stands only in the proxy of a breaker handler; use breaker_proxy")
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
