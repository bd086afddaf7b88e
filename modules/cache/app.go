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
	queue chan errand
	peers []*peers

	mu sync.Mutex // guards due
	// due holds the keys that are queued, being revalidated or, where only Redis
	// keeps them, on their way to it.
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
	a.queue = make(chan errand, 16*a.Workers)
	a.due = make(map[string]struct{})
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return nil
}

// Start starts the workers.
func (a *App) Start() error {
	for range a.Workers {
		a.work.Go(a.run)
	}
	for _, p := range a.peers {
		p.larder.peers.Store(p)
		a.work.Go(func() { p.listen(a.ctx) })
	}
	return nil
}

func (a *App) run() {
	for {
		select {
		case do := <-a.queue:
			a.carryOut(do)
		case <-a.ctx.Done():
			return
		}
	}
}

// errand is something to do in the background.
type errand func(ctx context.Context)

func (a *App) carryOut(do errand) {
	ctx, cancel := context.WithTimeout(a.ctx, time.Duration(a.Timeout))
	defer cancel()
	do(ctx)
}

// send queues an errand and says whether there was room.
func (a *App) send(do errand) bool {
	select {
	case a.queue <- do:
		return true
	default:
		return false
	}
}

// follow has the purges of peers carried out on l, once for each cache.
func (a *App) follow(p *peers) {
	for _, other := range a.peers {
		if other.larder == p.larder {
			return
		}
	}
	a.peers = append(a.peers, p)
}

// offer queues v, unless the same is due already.
func (a *App) offer(v *visit) {
	key := v.key + v.found.Selected
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.due[key]; known {
		return
	}
	v.over = func() { a.done(key) }
	if !a.send(func(ctx context.Context) {
		v.revalidate(ctx)
		if v.over != nil {
			v.over()
		}
	}) {
		v.h.meter.backgroundNo.Inc()
		return
	}
	a.due[key] = struct{}{}
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
	for _, p := range a.peers {
		p.larder.peers.CompareAndSwap(p, nil) // a newer configuration's stays
	}
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
