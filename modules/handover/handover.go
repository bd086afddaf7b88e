// Package handover is the changing of the guard: a configuration, or a whole
// process, takes over from another one and no client notices. It keeps one
// listening socket over reloads, passes waiting connections on to the new
// configuration, and sends clients elsewhere before the process ends.
package handover

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func init() {
	caddy.RegisterModule(new(Handover))
}

// Handover is a listener wrapper that has nothing to configure. On the server
// that names it,
//
//   - a TCP listener stays open over reloads, so that no connection is reset
//     in its accept queue;
//   - a cleartext HTTP/1.1 connection between two requests goes on with the
//     next configuration;
//   - once shutdown has begun, answers ask their client to leave, by
//     `Connection: close` or GOAWAY;
//   - WebSockets have the grace period too, and then get a close frame 1012;
//   - the process ends with code 3 if the grace period cut a request off.
type Handover struct {
	app    *caddyhttp.App
	logger *zap.Logger

	addresses []string // keys of sockets
	leaving   atomic.Bool
	inFlight  atomic.Int64 // requests, without WebSockets
	tunnels   tunnels
	takeBack  func() // the processor that was lent
}

// CaddyModule returns the Caddy module information.
func (*Handover) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.listeners.handover",
		New: func() caddy.Module { return new(Handover) },
	}
}

// Provision moves the server's TCP listeners to the network of this package
// and hooks into the life of its connections and requests.
func (h *Handover) Provision(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	app, isApp := ctx.Modules()[0].(*caddyhttp.App)
	if !ok || !isApp {
		return fmt.Errorf("handover: not on a server of the http app")
	}
	h.app, h.logger, h.takeBack = app, ctx.Logger(), sync.OnceFunc(lend())
	for i, listen := range server.Listen {
		addr, err := caddy.ParseNetworkAddress(listen)
		if err != nil {
			return fmt.Errorf("handover: listen address '%s': %w", listen, err)
		}
		if suffix, tcp := strings.CutPrefix(addr.Network, "tcp"); tcp && addr.StartPort != 0 {
			addr.Network = network + suffix
			server.Listen[i] = addr.String()
			for _, one := range addr.Expand() {
				h.addresses = append(h.addresses, key(one.Network, one.JoinHostPort(0)))
			}
		}
	}
	server.Routes = append(caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{(*usher)(h)}}}, server.Routes...)
	server.RegisterConnContext(known)
	server.RegisterConnState(changed)
	server.RegisterOnStop(h.end)

	hold(app)
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	if err := events.(*caddyevents.App).On("stopping", stopping{h}); err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	return instrument.Register(ctx.GetMetricsRegistry(), passed)
}

// Cleanup forgets the app's delay.
func (h *Handover) Cleanup() error {
	if h.takeBack != nil { // the configuration may have failed
		h.takeBack()
	}
	delays.Delete(h.app)
	return nil
}

// WrapListener returns l: what there is to do is done by the network. It is
// called once everything is provisioned.
func (h *Handover) WrapListener(l net.Listener) net.Listener {
	h.takeBack()
	return l
}

// UnmarshalCaddyfile sets up the listener wrapper. Syntax:
//
//	servers {
//		listener_wrappers {
//			handover
//		}
//	}
func (*Handover) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("handover takes no argument, got '%s'", d.Val())
	}
	if d.NextBlock(0) {
		return d.Errf("handover takes no block, got '%s'", d.Val())
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*Handover)(nil)
	_ caddy.CleanerUpper    = (*Handover)(nil)
	_ caddy.ListenerWrapper = (*Handover)(nil)
	_ caddyfile.Unmarshaler = (*Handover)(nil)
)
