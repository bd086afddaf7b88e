// Package routeindex is the porter: it knows every route of a server by heart.
// The routes are put together once, when the configuration is loaded, and those
// whose matchers begin with literal paths or host names are looked up.
package routeindex

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(new(RouteIndex))
}

// RouteIndex is a listener wrapper that has nothing to configure. Caddy puts
// the routes of a subroute together anew for each request, and asks all of a
// server's routes in turn; on the server that names this wrapper,
//
//   - its routes and the subroutes within are put together once;
//   - in a list of many, only those routes are asked that can match the path
//     or the host of the request; the rest is passed over.
//
// What a request meets, and in which order, is what it meets without.
type RouteIndex struct {
	server  *caddyhttp.Server
	name    string
	metrics *caddyhttp.Metrics
	ctx     caddy.Context
	logger  *zap.Logger
	gauge   *gauge

	once sync.Once
	// tree is what requests go through; nil leaves them to Caddy.
	tree caddyhttp.Handler
}

// CaddyModule returns the Caddy module information.
func (*RouteIndex) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.listeners.route_index",
		New: func() caddy.Module { return new(RouteIndex) },
	}
}

// Provision stands a route in front of the server's own.
func (x *RouteIndex) Provision(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	app, isApp := ctx.Modules()[0].(*caddyhttp.App)
	if !ok || !isApp {
		return errors.New("route_index: not on a server of the http app")
	}
	for name, s := range app.Servers {
		if s == server {
			x.name = name
		}
	}
	if _, found := rest(server.Routes, nil); found {
		return fmt.Errorf("route_index stands twice among the listener wrappers of server %s", x.name)
	}
	x.server, x.ctx, x.logger = server, ctx, ctx.Logger()
	// What the routes of this server are about to be provisioned with.
	x.metrics = app.Metrics
	x.gauge = newGauge(x.name)
	if err := ctx.GetMetricsRegistry().Register(x.gauge); err != nil {
		return fmt.Errorf("route_index: %w", err)
	}
	server.Routes = append(caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{(*entrance)(x)}}}, server.Routes...)
	return nil
}

// WrapListener returns l. It is called when the server starts: everything is
// provisioned, and no request has come yet.
func (x *RouteIndex) WrapListener(l net.Listener) net.Listener {
	x.once.Do(x.compile)
	return l
}

func (x *RouteIndex) compile() {
	if x.server.Logs != nil && x.server.Logs.Trace {
		x.logger.Info("routes are left to Caddy, which alone can trace them", zap.String("server", x.name), zap.String("option", "trace"))
		x.gauge.set(count{left: len(x.server.Routes) - 1})
		return
	}
	routes, _ := rest(x.server.Routes, (*entrance)(x))
	c := compiler{metrics: x.metrics, ctx: x.ctx}
	tree, err := c.server(routes)
	if err != nil {
		x.logger.Error("routes are left to Caddy", zap.String("server", x.name), zap.Error(err))
		x.gauge.set(count{left: len(x.server.Routes) - 1})
		return
	}
	x.tree = tree
	x.gauge.set(c.count)
	x.logger.Info("routes compiled", zap.String("server", x.name),
		zap.Int("indexed", c.count.indexed), zap.Int("walked", c.count.walked), zap.Int("short", c.count.short))
}

// rest returns the routes after that of e, or after any entrance for nil.
func rest(routes caddyhttp.RouteList, e *entrance) (after caddyhttp.RouteList, found bool) {
	for i, rt := range routes {
		if len(rt.Handlers) != 1 {
			continue
		}
		if own, ok := rt.Handlers[0].(*entrance); ok && (e == nil || own == e) {
			return routes[i+1:], true
		}
	}
	return nil, false
}

// UnmarshalCaddyfile sets up the listener wrapper. Syntax:
//
//	servers {
//		listener_wrappers {
//			route_index
//		}
//	}
func (*RouteIndex) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("route_index takes no argument, got '%s'", d.Val())
	}
	if d.NextBlock(0) {
		return d.Errf("route_index takes no block, got '%s'", d.Val())
	}
	return nil
}

// entrance is the handler in front of the server's routes.
type entrance RouteIndex

// CaddyModule returns the Caddy module information. The name is a label of
// Caddy's own metrics; the module is not registered, for nobody configures it.
func (*entrance) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.route_index"}
}

func (e *entrance) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	// A server of HTTP/3 alone has no listener to wrap.
	e.once.Do((*RouteIndex)(e).compile)
	if e.tree == nil {
		return next.ServeHTTP(w, r)
	}
	return e.tree.ServeHTTP(w, r)
}

var (
	_ caddy.Provisioner           = (*RouteIndex)(nil)
	_ caddy.ListenerWrapper       = (*RouteIndex)(nil)
	_ caddyfile.Unmarshaler       = (*RouteIndex)(nil)
	_ caddyhttp.MiddlewareHandler = (*entrance)(nil)
)
