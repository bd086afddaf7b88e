package cache

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const appName = "sallyport_cache"

func init() {
	caddy.RegisterModule(new(App))
}

// App owns what the caches of a configuration do in the background. It is
// there whenever a cache is; it needs to be configured only to change its size.
type App struct {
	// Workers is how many revalidations run at once. Default: 8.
	Workers int `json:"workers,omitempty"`

	// Timeout ends a revalidation. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	// queue holds revalidations that wait for a worker. When it is full, one
	// more is dropped and counted: the next request for the same asks again.
	queue chan *visit

	mu sync.Mutex // guards due
	// due holds the keys that are queued or being revalidated.
	due map[string]struct{}
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appName, New: func() caddy.Module { return new(App) }}
}

// Provision makes the queue; nothing runs before Start.
func (a *App) Provision(caddy.Context) error {
	if a.Workers < 0 || a.Workers > 1024 {
		return fmt.Errorf("cache: workers is %d; it is a whole number from 1 to 1024", a.Workers)
	}
	a.Workers = cmp.Or(a.Workers, 8)
	a.Timeout = cmp.Or(a.Timeout, caddy.Duration(30*time.Second))
	a.queue = make(chan *visit, 16*a.Workers)
	a.due = make(map[string]struct{})
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return nil
}

// Start starts the workers.
func (a *App) Start() error {
	for range a.Workers {
		a.work.Go(a.run)
	}
	return nil
}

func (a *App) run() {
	for {
		select {
		case v := <-a.queue:
			a.revalidate(v)
		case <-a.ctx.Done():
			return
		}
	}
}

func (a *App) revalidate(v *visit) {
	ctx, cancel := context.WithTimeout(a.ctx, time.Duration(a.Timeout))
	defer cancel()
	defer a.done(v.key + v.found.Selected)
	v.revalidate(ctx)
}

// offer queues v, unless the same is due already.
func (a *App) offer(v *visit) {
	key := v.key + v.found.Selected
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.due[key]; known {
		return
	}
	select {
	case a.queue <- v:
		a.due[key] = struct{}{}
	default:
		v.h.meter.backgroundNo.Inc()
	}
}

// busy says whether key is due already, so that no request need be copied for it.
func (a *App) busy(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.due[key]
	return known
}

func (a *App) done(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.due, key)
}

// Stop ends the workers and what they do. What was not revalidated is asked
// for again by the next request.
func (a *App) Stop() error {
	a.cancel()
	a.work.Wait()
	return nil
}

// Cleanup frees an app that was never started.
func (a *App) Cleanup() error {
	if a.cancel != nil {
		a.cancel()
	}
	return nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
