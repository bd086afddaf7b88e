package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App runs what rate_limit handlers with Redis share. It has no settings and
// needs not be written into a configuration: the handlers bring it.
type App struct {
	ctx     caddy.Context
	logger  *zap.Logger
	events  *caddyevents.App
	ledgers map[string]*held
	news    chan news
	quit    chan struct{}
	told    sync.WaitGroup
	unwatch []func()
}

// held is a Ledger in use and the name of its Redis in the configuration.
type held struct {
	*ledger.Ledger
	redis string
}

// ledgers holds each Ledger in use; the batches go on over a reload.
var ledgers = caddy.NewUsagePool()

type pooled struct{ *ledger.Ledger }

// Destruct does nothing: the last Stop has ended the ledger.
func (pooled) Destruct() error { return nil }

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport_ratelimit", New: func() caddy.Module { return new(App) }}
}

// Provision finds the events app, where somebody may have subscribed to ours.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("get events app: %w", err)
	}
	a.events = events.(*caddyevents.App)
	return nil
}

// hold returns the ledger of this client, prefix and secret.
func (a *App) hold(client *redispool.Client, prefix, secret string) (*ledger.Ledger, error) {
	digest := sha256.Sum256([]byte(secret))
	key := strings.Join([]string{client.Key(), prefix, hex.EncodeToString(digest[:])}, " ")
	if h := a.ledgers[key]; h != nil {
		return h.Ledger, nil
	}
	value, _, err := ledgers.LoadOrNew(key, func() (caddy.Destructor, error) {
		var given []byte
		if secret != "" {
			given = []byte(secret)
		}
		return pooled{ledger.New(client.Redis(), prefix, given)}, nil
	})
	if err != nil {
		return nil, err
	}
	if a.ledgers == nil {
		a.ledgers = make(map[string]*held)
	}
	a.ledgers[key] = &held{value.(pooled).Ledger, client.Name()}
	return a.ledgers[key].Ledger, nil
}

// Start begins to send to Redis, without waiting for it, and to tell of what
// becomes of it.
func (a *App) Start() error {
	a.news, a.quit = make(chan news, newsMost), make(chan struct{})
	a.told.Go(a.tell)
	for _, h := range a.ledgers {
		a.unwatch = append(a.unwatch, h.Watch(func(c ledger.Change) { a.hear(news{h.redis, c, time.Now()}) }))
		h.Start()
	}
	return nil
}

// Stop ends sending, unless a newer configuration goes on.
func (a *App) Stop() error {
	for _, h := range a.ledgers {
		h.Stop()
	}
	for _, stop := range a.unwatch {
		stop()
	}
	close(a.quit)
	a.told.Wait()
	return nil
}

// Ready says degraded while limits are not shared as they should be.
func (a *App) Ready(context.Context) error {
	for _, l := range a.ledgers {
		if down := l.Down(); len(down) > 0 {
			return degraded{fmt.Errorf("rate_limit: no answer from %s; each zone does as its on_error says", strings.Join(down, ", "))}
		}
		if l.Gateways() == 0 {
			return degraded{errors.New("rate_limit: the number of gateways is not known; every zone is strict")}
		}
	}
	return nil
}

// degraded is an error of something that the gateway can do without for a while.
type degraded struct{ error }

// Degraded says that the gateway still serves.
func (degraded) Degraded() bool { return true }

// Cleanup lets go of the ledgers.
func (a *App) Cleanup() error {
	for key := range a.ledgers {
		_, _ = ledgers.Delete(key)
	}
	a.ledgers = nil
	return nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
