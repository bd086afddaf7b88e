package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App runs what rate_limit handlers with Redis share. It has no settings and
// needs not be written into a configuration: the handlers bring it.
type App struct {
	ledgers map[string]*ledger.Ledger
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

// hold returns the ledger of this client, prefix and secret.
func (a *App) hold(client *redispool.Client, prefix, secret string) (*ledger.Ledger, error) {
	digest := sha256.Sum256([]byte(secret))
	key := strings.Join([]string{client.Key(), prefix, hex.EncodeToString(digest[:])}, " ")
	if l := a.ledgers[key]; l != nil {
		return l, nil
	}
	held, _, err := ledgers.LoadOrNew(key, func() (caddy.Destructor, error) {
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
		a.ledgers = make(map[string]*ledger.Ledger)
	}
	a.ledgers[key] = held.(pooled).Ledger
	return a.ledgers[key], nil
}

// Start begins to send to Redis. It does not wait for it.
func (a *App) Start() error {
	for _, l := range a.ledgers {
		l.Start()
	}
	return nil
}

// Stop ends sending, unless a newer configuration goes on.
func (a *App) Stop() error {
	for _, l := range a.ledgers {
		l.Stop()
	}
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
	_ caddy.CleanerUpper = (*App)(nil)
)
