// Package audit is the record room: refusals, chosen requests, and changes of
// the gateway itself become events that reach every sink.
package audit

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App writes audit events down and delivers them to sinks.
type App struct {
	// Sinks are where events go; each gets every event, independently of the
	// others. Default: the sink of AUDIT_EVENT_SINK_URL.
	Sinks []*SinkConfig `json:"sinks,omitempty"`

	// Node names this gateway in every event; a placeholder such as {env.NODE}
	// tells gateways of one configuration on one host apart. Default: the host name.
	Node string `json:"node,omitempty"`

	// Spool is a folder on a durable volume in which events outlast a crash.
	// Default: none; events that wait for sinks live in memory.
	Spool string `json:"spool,omitempty"`

	// MinFree is the share of the spool's volume, in percent, that is left to
	// others; below it only the classes admin and config are taken. Default: 5.
	MinFree float64 `json:"min_free,omitempty"`

	// MaxBytes is how much the events that wait for sinks may take. Beyond
	// shares of it the lesser classes of events are dropped, first those of
	// whole requests, last changes of configuration. Default: 1 GiB with a
	// spool, 64 MiB in memory.
	MaxBytes int64 `json:"max_bytes,omitempty"`

	// DropOldest gives up the oldest events where there is no room, not the
	// new ones of lesser classes. Default: false.
	DropOldest bool `json:"drop_oldest,omitempty"`

	// Strict names the classes whose events must be on the disk before what
	// they tell of goes on. It needs a spool. Default: admin and config where
	// there is a spool. `none` stands for no class.
	Strict []string `json:"strict,omitempty"`

	// Checkpoint says how often the chain over all events is signed.
	Checkpoint Checkpoint `json:"checkpoint,omitzero"`

	// Admin is the address of Caddy's admin endpoint, from which each new
	// configuration is read back. Default: that of the configuration.
	Admin string `json:"admin,omitempty"`

	// Granted records each caller that a guard lets in, as it records those
	// that are refused. Default: false.
	Granted bool `json:"granted,omitempty"`

	// Coalesce sums up refusals that one client provokes again and again.
	Coalesce Coalesce `json:"coalesce,omitzero"`

	// Fields are what an event tells of a request. Default: everything but
	// the query, the user agent, headers and claims.
	Fields []string `json:"fields,omitempty"`

	// Redact says which of the fields are hashed or left out.
	Redact Redact `json:"redact,omitzero"`

	// ShutdownFlush is how long the end of the process, or of the last
	// configuration with audit, waits for sinks. Default: 5s.
	ShutdownFlush caddy.Duration `json:"shutdown_flush,omitempty"`

	on       bool
	strict   [len(classNames)]bool
	signer   ed25519.PrivateKey
	api      *AdminAPI
	sinks    []*sinkEntry
	lens     lens
	envelope string // of every event, behind its id
	metadata string
	logger   *zap.Logger

	key      string // of desk in desks; empty when none is held
	desk     *desk
	attached bool
	served   bool // another configuration has taken over
	unlisten func()
	pens     sync.Pool
}

// SinkConfig is one sink and what holds for sinks of every type.
type SinkConfig struct {
	// Name tells this sink from others of its type; its place in the spool is
	// kept under it. Default: the type.
	Name string `json:"name,omitempty"`

	// Optional lets the spool give up events that this sink does not have
	// yet once every required sink has them.
	Optional bool `json:"optional,omitempty"`

	// MaxLag is how old events may get that wait only for this optional sink,
	// while half of the spool is free. Default: 10m.
	MaxLag caddy.Duration `json:"max_lag,omitempty"`

	// SinkRaw is the sink itself.
	SinkRaw json.RawMessage `json:"sink,omitempty" caddy:"namespace=sallyport.audit.sinks inline_key=type"`
}

// sinkEntry is a sink that is ready.
type sinkEntry struct {
	name     string
	optional bool
	maxLag   time.Duration
	sink     Sink
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport_audit", New: func() caddy.Module { return new(App) }}
}

// Provision decides whether audit is on and makes the sinks ready.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	if err := a.decide(); err != nil || !a.on {
		return err
	}
	if err := register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if err := a.defaults(); err != nil {
		return err
	}
	for _, c := range a.Sinks {
		if err := a.load(ctx, c); err != nil {
			return err
		}
	}
	if err := a.followConfig(ctx); err != nil {
		return err
	}
	return a.acquire()
}

func (a *App) defaults() error {
	node, err := caddy.NewReplacer().ReplaceOrErr(a.Node, true, true)
	if err != nil {
		return fmt.Errorf("audit: node %s: %w", a.Node, err)
	}
	if a.Node = node; a.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("audit: the host has no name to use as node: %w", err)
		}
		a.Node = host
	}
	if err := a.store(); err != nil {
		return err
	}
	if a.ShutdownFlush == 0 {
		a.ShutdownFlush = caddy.Duration(5 * time.Second)
	}
	if a.Coalesce.First == 0 {
		a.Coalesce.First = 10
	}
	if a.Coalesce.Window == 0 {
		a.Coalesce.Window = caddy.Duration(10 * time.Second)
	}
	a.envelope = envelopeOf(a.Node)
	a.metadata = metadataOf()
	a.pens.New = func() any { return &pen{b: make([]byte, 0, 2<<10)} }
	return a.focus()
}

func (a *App) focus() (err error) {
	var key string
	if a.Redact.Key != "" {
		if key, err = secret.Resolve(a.Redact.Key); err != nil {
			return fmt.Errorf("audit: redact key: %w", err)
		}
	}
	if a.lens, err = grind(a.Fields, a.Redact, key, nil); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (a *App) load(ctx caddy.Context, c *SinkConfig) error {
	e := &sinkEntry{name: c.label(), optional: c.Optional, maxLag: time.Duration(c.MaxLag)}
	switch {
	case c.MaxLag < 0 || c.MaxLag > 0 && !c.Optional:
		return fmt.Errorf("audit: sink '%s': max_lag is for a sink that is optional", e.name)
	case c.MaxLag == 0:
		e.maxLag = 10 * time.Minute
	}
	if !validName(e.name) {
		return fmt.Errorf("audit: a sink is called '%s'; a name is one word of letters, digits, '-' and '_'", e.name)
	}
	for _, other := range a.sinks {
		if other.name == e.name {
			return fmt.Errorf("audit: two sinks are called '%s'; give one of them a name", e.name)
		}
	}
	mod, err := ctx.LoadModule(c, "SinkRaw")
	if err != nil {
		return fmt.Errorf("audit: sink '%s': %w", e.name, err)
	}
	s, ok := mod.(Sink)
	if !ok {
		return fmt.Errorf("audit: sink '%s' is a %T, which is no audit sink", e.name, mod)
	}
	e.sink = s
	a.sinks = append(a.sinks, e)
	return nil
}

// acquire takes the desk, which opens nothing before Start.
func (a *App) acquire() error {
	key := "spool " + a.Spool
	if a.Spool == "" {
		key = "memory " + a.Node
	}
	v, _, err := desks.LoadOrNew(key, func() (caddy.Destructor, error) { return newDesk(a.Node, a.Spool), nil })
	if err != nil {
		return err
	}
	a.key, a.desk = key, v.(*desk)
	return nil
}

// Start opens the spool, begins to deliver, and listens to the guards.
func (a *App) Start() error {
	if !a.on {
		return nil
	}
	first, err := a.desk.attach(a)
	if err != nil {
		return err
	}
	a.attached = true
	if first {
		a.firstWords()
	}
	var also []exchange.Kind
	if a.Granted {
		also = append(also, exchange.AuthGranted)
	}
	a.unlisten = exchange.Listen("audit", a.hear, also...)
	return nil
}

// Stop ends the listening once a newer configuration has taken over. The last
// one goes on until Cleanup: requests are still refused while servers drain.
func (a *App) Stop() error {
	if a.attached && a.desk.superseded(a) {
		a.served = true
		a.leave()
	}
	return nil
}

func (a *App) leave() {
	a.unlisten()
	a.desk.detach(a, time.Duration(a.ShutdownFlush))
	a.attached = false
}

// Cleanup delivers what it can in bounded time and gives the desk back.
func (a *App) Cleanup() error {
	if a.attached {
		a.leave()
	}
	if a.key == "" {
		return nil
	}
	if !a.served {
		a.desk.giveUp()
	}
	key := a.key
	a.key = ""
	_, err := desks.Delete(key)
	return err
}

func (a *App) pen() *pen {
	p := a.pens.Get().(*pen)
	p.b = p.b[:0]
	return p
}

func (a *App) putBack(p *pen) {
	if cap(p.b) <= 2*maxEvent {
		a.pens.Put(p)
	}
}

// lifecycle records that the gateway itself came or went.
func (a *App) lifecycle(k eventKind, message string) {
	now := time.Now()
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, k, now, k.activity)
	p.raw("status_id", "1")
	p.text("message", message)
	p.open("app")
	p.text("name", "Sallyport")
	p.end()
	finish(p)
	_ = a.write(k.class, now, p.b) // a failure is counted, and a loss told
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
