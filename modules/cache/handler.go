// Package cache is the larder: a shared HTTP cache after RFC 9111.
//
// No request is ever served on another's goroutine. Of the requests that want
// one thing the first asks the upstream, on the goroutine it came on, and the
// others read what it brings; what runs in the background runs on a request
// of its own that shares nothing with a client's.
package cache

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler answers requests from what it kept of earlier answers, where the
// origin allowed that.
type Handler struct {
	// Name sets apart what is kept: handlers with different names never answer
	// with each other's objects. Default: `default`. It is also the `cache`
	// label of the metrics.
	Name string `json:"name,omitempty"`

	// Memory is how many bytes the store may take. Handlers with the same
	// Name and Memory share one store, which is kept over reloads. Default: 128 MiB.
	Memory int64 `json:"memory,omitempty"`

	// MaxObject is how many bytes the body of one object may have; larger
	// answers pass through. Default: 8 MiB.
	MaxObject int64 `json:"max_object,omitempty"`

	// MaxVariants is how many answers to one key are kept beside each other
	// because of `Vary`. Default: 32.
	MaxVariants int `json:"max_variants,omitempty"`

	// Key says what tells requests apart beside scheme, host, path and query.
	Key *Key `json:"key,omitempty"`

	// StaleWhileRevalidate is how long after its lifetime an answer may be
	// used while a newer one is fetched, where the answer does not say so
	// itself. Default: 0, only where the answer says so.
	StaleWhileRevalidate caddy.Duration `json:"stale_while_revalidate,omitempty"`

	// StaleIfError is how long after its lifetime an answer may be used when
	// the upstream fails, where the answer does not say so itself. Default: 0.
	StaleIfError caddy.Duration `json:"stale_if_error,omitempty"`

	// Negative keeps answers of some error statuses for a while that name no
	// lifetime. Default: none.
	Negative *Negative `json:"negative,omitempty"`

	// Heuristic keeps answers that name no lifetime for a share of the time
	// since their Last-Modified. Default: off.
	Heuristic *Heuristic `json:"heuristic,omitempty"`

	// Targets are the targeted fields (RFC 9213) to obey before Cache-Control,
	// in order, such as `CDN-Cache-Control`. Default: `Sallyport-Cache-Control`.
	Targets []string `json:"targets,omitempty"`

	// Tags are the fields of an answer that list the names by which purges
	// call it. Default: `Surrogate-Key` and `Cache-Tag`.
	Tags []string `json:"tags,omitempty"`

	// ClientDirectives is `honour` or `ignore`: whether a request's own
	// Cache-Control counts. Default: `honour`, as RFC 9111 has it.
	ClientDirectives string `json:"client_directives,omitempty"`

	// Redis is the name of the client (`redis` option) behind which objects are
	// kept for all gateways, and over which purges are told. Default: none.
	Redis string `json:"redis,omitempty"`

	// RedisMaxObject is how many bytes the body of an object in Redis may
	// have. Default: 1 MiB, or MaxObject if that is less.
	RedisMaxObject int64 `json:"redis_max_object,omitempty"`

	// RedisOnly keeps nothing in memory: each hit comes from Redis, and Memory
	// bounds only what is on its way. Default: memory first, then Redis.
	RedisOnly bool `json:"redis_only,omitempty"`

	// Collapse bounds the requests that wait for another's fetch.
	Collapse *Collapse `json:"collapse,omitempty"`

	rules   freshness.Rules
	larder  *larder
	holding bool
	second  *second
	keeper  *App
	meter   *meter
	logger  *zap.Logger
	alone   bool
	waiters int
	patient time.Duration
	// unfaithful is set once a request in the background was found to differ
	// from its client's; from then on none are made.
	unfaithful atomic.Bool
}

// Negative is how long which error answers are kept.
type Negative struct {
	// For is their lifetime.
	For caddy.Duration `json:"for,omitempty"`
	// Status lists the statuses, of 404, 405, 410, 414 and 501. Default: 404 and 410.
	Status []int `json:"status,omitempty"`
}

// Heuristic is how long answers without a lifetime are kept (RFC 9111 section 4.2.2).
type Heuristic struct {
	// Share is the share of the time since Last-Modified, such as 0.1.
	Share float64 `json:"share,omitempty"`
	// Most is the longest lifetime so found. Default: 24 h.
	Most caddy.Duration `json:"most,omitempty"`
}

// Collapse bounds the requests that wait for another's fetch of what they want.
type Collapse struct {
	// Off has every request fetch for itself.
	Off bool `json:"off,omitempty"`
	// Most is how many wait for one fetch; those beyond fetch for themselves. Default: 1000.
	Most int `json:"most,omitempty"`
	// Timeout is how long they wait for the answer to begin. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

const (
	defaultMemory    = 128 << 20
	leastMemory      = 1 << 20
	defaultMaxObject = 8 << 20
	defaultVariants  = 32
)

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.http_cache",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision takes hold of the store and finds the owner of what runs in the
// background.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := exchange.Muster(ctx); err != nil {
		return err
	}
	app, err := ctx.App(appName)
	if err != nil {
		return err
	}
	h.keeper = app.(*App)
	if err := h.provision(ctx); err != nil || h.Redis == "" {
		return err
	}
	client, err := redispool.Use(ctx, h.Redis)
	if err != nil {
		return fmt.Errorf("cache: redis %s: %w", h.Redis, err)
	}
	h.provisionRedis(client.Redis())
	return nil
}

func (h *Handler) provision(ctx caddy.Context) error {
	if err := h.check(); err != nil {
		return err
	}
	if err := errors.Join(register(ctx.GetMetricsRegistry()), reject.Register(ctx.GetMetricsRegistry())); err != nil {
		return err
	}
	h.logger = ctx.Logger()
	h.Name = cmp.Or(h.Name, "default")
	h.Memory = cmp.Or(h.Memory, defaultMemory)
	h.MaxObject = cmp.Or(h.MaxObject, min(defaultMaxObject, h.Memory/16))
	h.MaxVariants = cmp.Or(h.MaxVariants, defaultVariants)
	h.provisionRules()
	h.provisionCollapse()
	h.meter = newMeter(h.Name)
	l, err := hold(h.Name, h.Memory)
	if err != nil {
		return err
	}
	h.larder, h.holding = l, true
	return nil
}

// provisionRedis puts a tier in Redis behind the memory.
func (h *Handler) provisionRedis(client redis.UniversalClient) {
	h.RedisMaxObject = cmp.Or(h.RedisMaxObject, min(1<<20, h.MaxObject))
	h.second = &second{redis: client, name: h.Name, limit: h.RedisMaxObject, most: h.MaxVariants, patience: defaultPatience}
	h.keeper.follow(&peers{redis: client, larder: h.larder, second: h.second, node: node})
}

func (h *Handler) provisionRules() {
	if h.Key == nil {
		h.Key = new(Key)
	}
	h.Key.provision()
	h.rules = freshness.Rules{
		Targets:              []string{"Sallyport-Cache-Control"},
		StaleWhileRevalidate: time.Duration(h.StaleWhileRevalidate),
		StaleIfError:         time.Duration(h.StaleIfError),
	}
	if len(h.Targets) > 0 {
		h.rules.Targets = canonical(h.Targets)
	}
	h.Tags = canonical(h.Tags)
	if len(h.Tags) == 0 {
		h.Tags = []string{"Surrogate-Key", "Cache-Tag"}
	}
	if n := h.Negative; n != nil {
		h.rules.Negative, h.rules.NegativeStatus = time.Duration(n.For), n.Status
		if len(n.Status) == 0 {
			h.rules.NegativeStatus = []int{http.StatusNotFound, http.StatusGone}
		}
	}
	if u := h.Heuristic; u != nil {
		h.rules.Heuristic = u.Share
		h.rules.HeuristicMost = cmp.Or(time.Duration(u.Most), 24*time.Hour)
	}
}

func (h *Handler) provisionCollapse() {
	h.waiters, h.patient = 1000, 10*time.Second
	if c := h.Collapse; c != nil {
		h.alone = c.Off
		h.waiters = cmp.Or(c.Most, h.waiters)
		h.patient = cmp.Or(time.Duration(c.Timeout), h.patient)
	}
}

// Validate refuses settings that cannot be meant.
func (h *Handler) Validate() error { return h.check() }

var negatives = map[int]bool{404: true, 405: true, 410: true, 414: true, 501: true}

func (h *Handler) check() error {
	switch {
	case len(h.Name) > 128 || strings.ContainsFunc(h.Name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '{' || c == '}' }):
		return fmt.Errorf("cache: name is '%s'; it is up to 128 signs without spaces and braces", h.Name)
	case h.Memory != 0 && h.Memory < leastMemory:
		return fmt.Errorf("cache: memory is %d bytes; it is at least 1MiB", h.Memory)
	case h.MaxObject < 0:
		return fmt.Errorf("cache: max_object is %d bytes; it is more than 0", h.MaxObject)
	case h.MaxObject > cmp.Or(h.Memory, defaultMemory)/4:
		return fmt.Errorf("cache: max_object is %d bytes; it is at most a quarter of memory, %d", h.MaxObject, cmp.Or(h.Memory, defaultMemory)/4)
	case h.RedisMaxObject < 0:
		return fmt.Errorf("cache: redis_max_object is %d bytes; it is more than 0", h.RedisMaxObject)
	case h.RedisMaxObject > 0 && h.Redis == "":
		return errors.New("cache: redis_max_object is given without redis")
	case h.RedisOnly && h.Redis == "":
		return errors.New("cache: redis_only is given without redis")
	case h.MaxVariants < 0:
		return fmt.Errorf("cache: max_variants is %d; it is a whole number of at least 1", h.MaxVariants)
	case h.ClientDirectives != "" && h.ClientDirectives != "honour" && h.ClientDirectives != "ignore":
		return fmt.Errorf("cache: client_directives is '%s'; it is one of honour, ignore", h.ClientDirectives)
	case h.Negative != nil && h.Negative.For <= 0:
		return errors.New("cache: negative has no duration; write one such as negative 10s 404 410")
	case h.Heuristic != nil && !(h.Heuristic.Share > 0 && h.Heuristic.Share <= 1):
		return fmt.Errorf("cache: heuristic is %v; it is a share above 0 and up to 100%%", h.Heuristic.Share)
	}
	if h.Negative != nil {
		for _, s := range h.Negative.Status {
			if !negatives[s] {
				return fmt.Errorf("cache: negative status %d is not one of 404, 405, 410, 414, 501; an error of the server or of one client's request is not kept for others", s)
			}
		}
	}
	return h.Key.check()
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	v := &visit{h: h, w: w, r: r, next: next, card: exchange.Of(r), now: time.Now()}
	if why := v.passes(); why != "" {
		return v.pass(why)
	}
	return v.serve()
}

// Cleanup lets go of the store.
func (h *Handler) Cleanup() error {
	if !h.holding {
		return nil
	}
	// Requests of this configuration may still run: they keep their pointer.
	h.holding = false
	return h.larder.release()
}

func canonical(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = http.CanonicalHeaderKey(n)
	}
	return out
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
