// Package ratelimit is the turnstile: how often each caller may pass.
package ratelimit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

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
//
// It sets `{http.rate_limit.exceeded.name}` to the zone that refused.
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

	// LegacyHeaders adds X-RateLimit-Limit, -Remaining and -Reset of the
	// tightest zone.
	LegacyHeaders bool `json:"legacy_headers,omitempty"`

	// Jitter lengthens Retry-After at random by up to this share, such as 0.2.
	Jitter float64 `json:"jitter,omitempty"`

	// LogKey logs each refusal with the caller's key.
	LogKey bool `json:"log_key,omitempty"`

	// DisableMetrics turns off the metrics named caddy_rate_limit.
	DisableMetrics bool `json:"disable_metrics,omitempty"`

	// SweepInterval is accepted and has no effect: expired keys are dropped as
	// new ones come in.
	SweepInterval caddy.Duration `json:"sweep_interval,omitempty"`

	// Distributed and StorageRaw are refused with how to write it with redis.
	Distributed json.RawMessage `json:"distributed,omitempty"`
	StorageRaw  json.RawMessage `json:"storage,omitempty"`

	zones    []*Zone
	ledger   *ledger.Ledger // nil where limits are kept in memory
	patience time.Duration
	waits    waits
	after    bool // some zone has something to do after the answer

	ctx              caddy.Context
	logger           *zap.Logger
	events           *caddyevents.App
	communityMetrics bool
	communityZones   []string // counted as used
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
	h.ctx, h.logger, h.patience = ctx, ctx.Logger(), patience
	if err := exchange.Muster(ctx); err != nil {
		return err
	}
	if err := register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if err := reject.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if events, err := ctx.AppIfConfigured("events"); err == nil {
		h.events = events.(*caddyevents.App)
	}
	if err := h.openLedger(ctx); err != nil {
		return err
	}
	for name, z := range h.RateLimits {
		if z == nil {
			return fmt.Errorf("rate_limit zone %s is empty", name)
		}
		z.ledger, z.gateways = h.ledger, h.Gateways
		if err := z.provision(ctx, name); err != nil {
			return fmt.Errorf("rate_limit zone %s: %w", name, err)
		}
		h.after = h.after || z.rule.kind == concurrent || z.ResponseCost != ""
		h.zones = append(h.zones, z)
	}
	// Every request locks its zones in this order, so none waits in a circle.
	slices.SortFunc(h.zones, func(a, b *Zone) int { return strings.Compare(a.name, b.name) })
	return h.provisionCommunity(ctx.GetMetricsRegistry())
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

// Validate refuses a handler that limits nothing, or that is told to share its
// limits in a way that there is a better one for.
func (h *Handler) Validate() error {
	switch {
	case len(h.RateLimits) == 0:
		return errNoZone
	case h.Distributed != nil || h.StorageRaw != nil:
		return errDistributed
	case h.Jitter < 0:
		return fmt.Errorf("rate_limit jitter is %v; it is a share such as 0.2", h.Jitter)
	case h.Gateways < 0:
		return fmt.Errorf("rate_limit gateways is %d; it is a whole number of at least 1", h.Gateways)
	}
	return nil
}

var errNoZone = errors.New("rate_limit has no zone; write zone <name> { key <template>; rate 100/1m }")

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	v := visits.Get().(*visit)
	asks, missing, err := h.gather(v.asks[:0], r)
	defer v.leave(asks)
	switch {
	case err != nil:
		return err
	case missing != nil:
		return reject.Refuse(w, r, missing)
	case len(asks) == 0:
		return next.ServeHTTP(w, r)
	}
	began := time.Now()
	passed := h.take(v, asks, began)
	if h.communityMetrics {
		h.countCommunity(asks, time.Since(began))
	}
	x := exchange.Of(r)
	for i := range asks {
		a := &asks[i]
		a.zone.count(a)
		x.Zones = append(x.Zones, a.decision())
	}
	if v.trip > 0 {
		x.Step(exchange.Step{Name: "redis rate_limit", System: "redis", Began: began, Took: v.trip, Err: unanswered(asks)})
	}
	h.setHeaders(w.Header(), asks, instant(began))
	if !passed {
		return h.refuse(w, r, asks)
	}
	if h.after {
		// Also when the answer breaks off with a panic: a place must not leak.
		defer h.settle(w.Header(), asks)
	}
	return next.ServeHTTP(w, r)
}

func (h *Handler) take(v *visit, asks []ask, now time.Time) (admitted bool) {
	if h.ledger == nil {
		return takeLocal(asks, instant(now))
	}
	return h.takeShared(v, asks, now)
}

// visit is the working space of one request.
type visit struct {
	asks    [4]ask
	errands [4]errand
	// trip is how long the request waited for Redis, zero if it did not.
	trip time.Duration
}

var visits = sync.Pool{New: func() any { return new(visit) }}

func (v *visit) leave(asks []ask) {
	clear(v.asks[:min(len(asks), len(v.asks))])
	v.trip = 0
	visits.Put(v)
}

func (h *Handler) gatewayCount() int { return cmp.Or(h.Gateways, h.ledger.Gateways()) }

// Cleanup lets go of the zones' tables.
func (h *Handler) Cleanup() error {
	for _, z := range h.RateLimits {
		if z != nil {
			z.cleanup()
		}
	}
	for _, name := range h.communityZones {
		_, _ = communityZones.Delete(name)
	}
	h.communityZones = nil
	return nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
