package flags

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func init() {
	caddy.RegisterModule(new(App))
}

const appName = "sallyport_flags"

// App holds the flags of a configuration: where they come from, by what callers
// are told apart, and what holds when no source can say.
//
// Placeholder | Meaning
// ------------|--------
// `{sallyport.flag.<name>}` | The variant that the request's caller gets; empty where nothing is known of the flag
type App struct {
	// SourcesRaw are where flags come from, as modules of the namespace
	// sallyport.flags.sources. The first that has a flag decides.
	SourcesRaw []json.RawMessage `json:"sources,omitempty" caddy:"namespace=sallyport.flags.sources inline_key=source"`

	// Context is by what callers are told apart.
	Context *Context `json:"context,omitempty"`

	// Defaults are the variants of flags that no source knows, by the flag's name.
	Defaults map[string]string `json:"defaults,omitempty"`

	// ControllersRaw set the split of flags while the gateway runs, as modules of
	// the namespace sallyport.flags.controllers.
	ControllersRaw []json.RawMessage `json:"controllers,omitempty" caddy:"namespace=sallyport.flags.controllers inline_key=controller"`

	logger      *zap.Logger
	shelf       shelf
	board       *board
	holds       bool
	sources     []held
	controllers map[string]Controller
	meters      meters
	running     []func()
	keeping     sync.WaitGroup
	keepMu      sync.Mutex // one write of the splits at a time, so that the last one stays
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appName, New: func() caddy.Module { return new(App) }}
}

// Provision reads the sources' settings. It asks nobody.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger, a.shelf = ctx.Logger(), shelf{ctx.Storage()}
	if err := instrument.Register(ctx.GetMetricsRegistry(), evaluationsTotal, changesTotal, requestSeconds, &inForce); err != nil {
		return err
	}
	if a.Context == nil {
		a.Context = new(Context)
	}
	if err := a.Context.provision(); err != nil {
		return fmt.Errorf("flags context: %w", err)
	}
	for flag, variant := range a.Defaults {
		if err := rules.CheckName(flag); err != nil {
			return fmt.Errorf("flags: default: %w", err)
		}
		if variant == "" {
			return fmt.Errorf("flags: default: flag '%s' has no variant", flag)
		}
	}
	b, err := holdBoard()
	if err != nil {
		return err
	}
	a.board, a.holds = b, true
	if a.SourcesRaw == nil {
		return errors.New("flags: there is no source; write one such as 'source file flags.yaml'")
	}
	if err := a.loadSources(ctx); err != nil {
		return err
	}
	return a.loadControllers(ctx)
}

func (a *App) loadSources(ctx caddy.Context) error {
	loaded, err := ctx.LoadModule(a, "SourcesRaw")
	if err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	for _, m := range loaded.([]any) {
		s, ok := m.(Source)
		if !ok {
			return fmt.Errorf("flags: %T is no source of flags", m)
		}
		h := held{name: nameOf(m), source: s}
		n := 1
		for _, other := range a.sources {
			if nameOf(other.source) == nameOf(m) {
				n++
			}
		}
		if n > 1 {
			h.name = fmt.Sprintf("%s#%d", h.name, n)
		}
		h.ruled, _ = s.(Ruled)
		h.remote, _ = s.(Remote)
		h.writer, _ = s.(Writer)
		id := h.name
		if named, ok := m.(interface{ ID() string }); ok {
			id = named.ID()
		}
		d := &Desk{Logger: a.logger.Named(h.name), Attribute: a.Context.has, app: a, id: id}
		if early, ok := m.(interface{ Prepare(*Desk) error }); ok {
			if err := early.Prepare(d); err != nil {
				return fmt.Errorf("flags source %s: %w", h.name, err)
			}
		}
		h.id = id
		h.start = func() error { return s.Start(d) }
		a.sources = append(a.sources, h)
	}
	return nil
}

func (a *App) loadControllers(ctx caddy.Context) error {
	a.controllers = make(map[string]Controller)
	if a.ControllersRaw == nil {
		return nil
	}
	if !slices.ContainsFunc(a.sources, func(h held) bool { return h.ruled != nil }) {
		return errors.New("flags: a controller needs a source of our own, such as file or redis: flags of others are only read")
	}
	loaded, err := ctx.LoadModule(a, "ControllersRaw")
	if err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	for _, m := range loaded.([]any) {
		c, ok := m.(Controller)
		if !ok {
			return fmt.Errorf("flags: %T is no controller of a flag", m)
		}
		flag := c.Flag()
		if err := rules.CheckName(flag); err != nil {
			return fmt.Errorf("flags: %s: %w", nameOf(m), err)
		}
		if a.controllers[flag] != nil {
			return fmt.Errorf("flags: flag '%s' has two controllers", flag)
		}
		a.controllers[flag] = c
	}
	return nil
}

// Start begins to follow the sources and lets the controllers work.
func (a *App) Start() error {
	a.board.restore(func() map[string]Split { return a.shelf.loadSteered(context.Background()) })
	for _, h := range a.sources {
		if err := h.start(); err != nil {
			return errors.Join(fmt.Errorf("flags source %s: %w", h.name, err), a.Stop())
		}
		a.running = append(a.running, h.source.Stop)
	}
	if err := inForce.bind(a); err != nil {
		return errors.Join(fmt.Errorf("flags: %w", err), a.Stop())
	}
	a.running = append(a.running, func() { inForce.unbind(a) })
	for flag, c := range a.controllers {
		if err := c.Start(&steering{a, flag}); err != nil {
			return errors.Join(fmt.Errorf("flags: controller of flag '%s': %w", flag, err), a.Stop())
		}
		a.running = append(a.running, c.Stop)
	}
	return nil
}

// Stop ends all in the opposite order. Requests that are still served evaluate
// by what is known.
func (a *App) Stop() error {
	for _, stop := range slices.Backward(a.running) {
		stop()
	}
	a.running = nil
	a.keeping.Wait()
	return nil
}

// Cleanup lets go of what outlives this configuration. Requests may still read
// the board.
func (a *App) Cleanup() error {
	if !a.holds {
		return nil
	}
	a.holds = false
	_, err := boards.Delete("board")
	return err
}

// Ready says which sources cannot be asked. The gateway still serves, by what
// was last known or by the defaults.
func (a *App) Ready(context.Context) error {
	var all []error
	for _, h := range a.sources {
		s := h.source.State()
		if s.Err == nil {
			continue
		}
		if s.Heard.IsZero() {
			all = append(all, fmt.Errorf("flags of source %s were never had: %w", h.name, s.Err))
		} else {
			all = append(all, fmt.Errorf("flags of source %s are %s old: %w", h.name, time.Since(s.Heard).Round(time.Second), s.Err))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return staleError{errors.Join(all...)}
}

// staleError is of flags that may have changed where nobody could see.
type staleError struct{ error }

// Degraded says that the gateway still serves.
func (staleError) Degraded() bool { return true }

// Unwrap returns the causes.
func (e staleError) Unwrap() error { return e.error }

// use returns the app of a configuration.
func use(ctx caddy.Context, who string) (*App, error) {
	app, err := ctx.AppIfConfigured(appName)
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, fmt.Errorf("%s needs the global option 'flags' with a source", who)
	} else if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
