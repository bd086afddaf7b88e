// Package ratelimit is the turnstile: how often each caller may pass.
package ratelimit

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
	"github.com/sallyport-gateway/sallyport/modules/reject"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler limits how often each caller may pass. A request passes if every
// zone that it belongs to admits it, and is charged to all of them or to none.
type Handler struct {
	// RateLimits holds the zones by name. A zone's state belongs to its name:
	// it is kept over reloads and shared by all handlers that use the name.
	RateLimits map[string]*Zone `json:"rate_limits,omitempty"`

	// Store is where limits are kept: `memory` or `redis`. Default: `redis`
	// where the configuration has the redis option, or else `memory`.
	Store string `json:"store,omitempty"`

	// Redis is the name of the redis option to use. Default: `default`.
	Redis string `json:"redis,omitempty"`

	// Gateways is how many gateways share the Redis. Default: they count
	// themselves.
	Gateways int `json:"gateways,omitempty"`

	// Secret is a reference to the text that keys the callers' names in Redis,
	// the same for all gateways. Default: made once and shared through Redis.
	Secret string `json:"secret,omitempty"`

	// Prefix stands before every key in Redis. Default: `sallyport:rl:`.
	Prefix string `json:"prefix,omitempty"`

	zones  []*Zone
	ledger *ledger.Ledger // nil where limits are kept in memory

	patience time.Duration
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.rate_limit",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision prepares the zones.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if err := reject.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if err := h.openLedger(ctx); err != nil {
		return err
	}
	h.patience = patience
	for name, z := range h.RateLimits {
		if z == nil {
			return fmt.Errorf("rate_limit zone %s is empty", name)
		}
		z.ledger, z.gateways = h.ledger, h.Gateways
		if err := z.provision(ctx, name); err != nil {
			return fmt.Errorf("rate_limit zone %s: %w", name, err)
		}
		h.zones = append(h.zones, z)
	}
	// Every request locks its zones in this order, so none waits in a circle.
	slices.SortFunc(h.zones, func(a, b *Zone) int { return strings.Compare(a.name, b.name) })
	return nil
}

// Validate refuses a handler that limits nothing.
func (h *Handler) Validate() error {
	if len(h.RateLimits) == 0 {
		return fmt.Errorf("rate_limit has no zone; write zone <name> { key <template>; rate 100/1m }")
	}
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	var room [4]ask
	asks, err := h.gather(room[:0], r)
	if err != nil {
		return err
	}
	if len(asks) == 0 {
		return next.ServeHTTP(w, r)
	}
	admitted := h.take(asks)
	x := exchange.Of(r)
	for i := range asks {
		a := &asks[i]
		a.zone.count(a)
		x.Zones = append(x.Zones, a.decision())
	}
	setHeaders(w.Header(), asks)
	if !admitted {
		return refuse(w, r, asks)
	}
	return next.ServeHTTP(w, r)
}

func (h *Handler) take(asks []ask) (admitted bool) {
	now := time.Now()
	if h.ledger == nil {
		return takeLocal(asks, instant(now))
	}
	return h.takeShared(asks, now)
}

// openLedger finds the Redis to keep limits in, if there is one.
func (h *Handler) openLedger(ctx caddy.Context) error {
	if err := oneOf("store", h.Store, []string{"memory", "redis"}); err != nil {
		return err
	}
	if h.Store == "memory" {
		return nil
	}
	client, err := redispool.Use(ctx, h.Redis)
	if errors.Is(err, caddy.ErrNotConfigured) && h.Store == "" && h.Redis == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rate_limit store redis: %w", err)
	}
	secret, err := secret.Resolve(h.Secret)
	if err != nil {
		return fmt.Errorf("rate_limit secret: %w", err)
	}
	app, err := ctx.App("sallyport_ratelimit")
	if err != nil {
		return err
	}
	h.ledger, err = app.(*App).hold(client, cmp.Or(h.Prefix, "sallyport:rl:"), secret)
	return err
}

func (h *Handler) gatewayCount() int { return cmp.Or(h.Gateways, h.ledger.Gateways()) }

// gather lists what the request asks of each zone it belongs to.
func (h *Handler) gather(asks []ask, r *http.Request) ([]ask, error) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for _, z := range h.zones {
		if len(z.matchers) > 0 {
			match, err := z.matchers.AnyMatchWithError(r)
			if err != nil {
				return nil, err
			}
			if !match {
				continue
			}
		}
		key, _ := z.template.fill(repl)
		asks = append(asks, ask{zone: z, rule: z.rule, key: key, cost: 1})
	}
	return asks, nil
}

// Cleanup lets go of the zones' tables.
func (h *Handler) Cleanup() error {
	for _, z := range h.RateLimits {
		if z != nil {
			z.cleanup()
		}
	}
	return nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
