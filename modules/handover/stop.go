package handover

import (
	"context"
	"os"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// delays are the shutdown_delay of each http app, by its address. Caddy asks its own
// pool of listeners whether an address is about to close, and does not find
// ours there: it would delay each reload. So the app has no delay until it is
// known that it needs one.
var delays sync.Map // of caddy.Duration, by *caddyhttp.App

func hold(app *caddyhttp.App) {
	if _, held := delays.LoadOrStore(app, app.ShutdownDelay); !held {
		app.ShutdownDelay = 0
	}
}

// stopping hears that the configuration is about to be stopped, on the
// goroutine that then stops its apps.
type stopping struct{ *Handover }

func (s stopping) Handle(context.Context, caddy.Event) error {
	for _, id := range s.addresses {
		if !succeeded(id) {
			s.leaving.Store(true)
		}
	}
	if delay, held := delays.Load(s.app); held && s.leaving.Load() {
		s.app.ShutdownDelay = delay.(caddy.Duration)
	}
	return nil
}

// end runs when the server's requests have ended, or ctx has: then grace is
// over. A reload leaves WebSockets to the stream_close_delay of their proxy.
func (h *Handover) end(ctx context.Context) error {
	if !caddy.Exiting() {
		return nil
	}
	if n := h.inFlight.Load(); n > 0 {
		h.logger.Error("the grace period is over: requests were cut off", zap.Int64("requests", n))
		cut.Do(func() {
			// What is registered now runs last, after other rooms' callbacks.
			caddy.OnExit(func(context.Context) { os.Exit(caddy.ExitCodeFailedQuit) })
		})
	}
	if _, bounded := ctx.Deadline(); bounded {
		h.tunnels.wait(ctx.Done())
	}
	if n := h.tunnels.part(); n > 0 {
		h.logger.Info("WebSockets were told that the service restarts", zap.Int("code", 1012), zap.Int("websockets", n))
	}
	return nil
}

var cut sync.Once

var _ caddyhttp.MiddlewareHandler = (*usher)(nil)
