package breaker

import (
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() {
	caddy.RegisterModule(new(App))
}

const appName = "sallyport_breakers"

// App belongs to one configuration. It knows the circuits its proxies use and
// tells of their transitions. It is made by the first `breaker_proxy`; there is
// nothing to configure.
type App struct {
	ctx    caddy.Context
	logger *zap.Logger
	events *caddyevents.App

	mu       sync.Mutex // guards what follows, while proxies are provisioned
	policies map[key]*Policy
	circuits map[key]*tracked
	herds    map[string]*herd
	routes   map[*route]*Handler
	handlers []*Handler
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appName, New: func() caddy.Module { return new(App) }}
}

// Provision registers the metrics.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	a.policies, a.circuits, a.herds = make(map[key]*Policy), make(map[key]*tracked), make(map[string]*herd)
	a.routes = make(map[*route]*Handler)
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("get events app: %w", err)
	}
	a.events = events.(*caddyevents.App)
	return a.register(ctx.GetMetricsRegistry())
}

// agree refuses a second policy for a circuit that another proxy of the same
// configuration uses: whose thresholds would hold?
func (a *App) agree(k key, p *Policy) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if other, ok := a.policies[k]; ok && !reflect.DeepEqual(other, p) {
		return fmt.Errorf("two proxies reach %s under the policy name '%s' with different policies; give one of them its own name: breaker <name> { … }", k.upstream, k.policy)
	}
	a.policies[k] = p
	return nil
}

func (a *App) join(t *tracked) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.circuits[t.key] = t
}

func (a *App) joinHerd(h *herd) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.herds[h.policy] = h
}

// joinRoute remembers a handler of each route, whose settings speak for it.
func (a *App) joinRoute(h *Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.routes[h.route] = h
}

func (a *App) joinHandler(h *Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handlers = append(a.handlers, h)
}

// members returns the circuits and herds of this configuration.
func (a *App) members() ([]*tracked, []*herd) {
	a.mu.Lock()
	defer a.mu.Unlock()
	circuits := make([]*tracked, 0, len(a.circuits))
	for _, t := range a.circuits {
		circuits = append(circuits, t)
	}
	herds := make([]*herd, 0, len(a.herds))
	for _, h := range a.herds {
		herds = append(herds, h)
	}
	return circuits, herds
}

// Start makes this configuration the one that tells of transitions.
func (a *App) Start() error {
	a.settleWays()
	news.bind(a)
	return nil
}

// Stop leaves that to the configuration that remains, if there is one.
func (a *App) Stop() error {
	news.unbind(a)
	return nil
}

// tell writes down one transition: a log line, a fact, and an event where
// somebody subscribed to it.
func (a *App) tell(n announcement) {
	mode := enforce
	if p := a.policyOf(n.of); p != nil {
		mode = p.Mode
	}
	c := n.change
	level := zap.InfoLevel
	if c.To == circuit.Open || c.To == circuit.ForcedOpen {
		level = zap.WarnLevel
	}
	var last string
	if f := n.of.lastFail.Load(); f != nil && c.To == circuit.Open {
		last = f.Why
	}
	if e := a.logger.Check(level, "circuit "+c.To.String()); e != nil {
		e.Write(zap.String("breaker", n.of.policy), zap.String("upstream", n.of.upstream), zap.String("mode", mode),
			zap.Stringer("from", c.From), zap.String("reason", c.Reason), zap.String("note", c.Note), zap.Int("total", c.Counts.Total),
			zap.Int("failures", c.Counts.Failures), zap.Int("slow", c.Counts.Slow), zap.Time("until", c.Until), zap.String("last_failure", last))
	}
	exchange.Report(exchange.Fact{Kind: exchange.CircuitChanged, Time: c.At, Code: c.To.String(), Order: n.order, Attrs: []slog.Attr{
		slog.String("breaker", n.of.policy), slog.String("upstream", n.of.upstream), slog.String("mode", mode),
		slog.String("from", c.From.String()), slog.String("reason", c.Reason), slog.String("note", c.Note), slog.Int("total", c.Counts.Total),
		slog.Int("failures", c.Counts.Failures), slog.Int("slow", c.Counts.Slow), slog.String("last_failure", last),
	}})
	if !a.events.ShouldEmit(eventName) {
		return
	}
	a.events.Emit(a.ctx, eventName, map[string]any{
		"breaker": n.of.policy, "upstream": n.of.upstream, "mode": mode, "from": c.From.String(), "to": c.To.String(),
		"reason": c.Reason, "note": c.Note, "total": c.Counts.Total, "failures": c.Counts.Failures, "slow": c.Counts.Slow, "last_failure": last,
		"until": untilText(c.Until),
	})
}

const eventName = "circuit_changed"

func untilText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func (a *App) policyOf(t *tracked) *Policy {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.policies[t.key]; p != nil {
		return p
	}
	return a.policies[key{t.policy, changing}]
}

var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
)
