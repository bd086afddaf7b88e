package routeindex

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// compiler puts the routes of one server together.
type compiler struct {
	metrics *caddyhttp.Metrics // of the server's own routes; nil for none
	ctx     caddy.Context
	count   count
}

// server compiles the routes of a server. They are measured one by one where
// Caddy's own metrics are on, those of subroutes never are.
func (c *compiler) server(routes caddyhttp.RouteList) (caddyhttp.Handler, error) {
	if len(routes) == 0 {
		return nothing, nil
	}
	l := c.list(routes, nothing, false)
	if c.metrics == nil {
		return l, nil
	}
	for i := range l.routes {
		rt := &l.routes[i]
		for _, way := range []*caddyhttp.Handler{&rt.run, &rt.other} {
			if *way == nil {
				continue
			}
			h, err := c.measured(routes[i], *way)
			if err != nil {
				return nil, fmt.Errorf("route %d: %w", i, err)
			}
			*way = h
		}
	}
	return l, nil
}

// measured wraps what a route does in Caddy's metrics, under the route's name.
func (c *compiler) measured(rt caddyhttp.Route, run caddyhttp.Handler) (caddyhttp.Handler, error) {
	var stand caddyhttp.Route
	if len(rt.Handlers) > 0 {
		stand.Handlers = []caddyhttp.MiddlewareHandler{standIn{rt.Handlers[0], run}}
	}
	if err := stand.ProvisionHandlers(c.ctx, c.metrics); err != nil {
		return nil, err
	}
	return stand.Compile(run), nil
}

// standIn stands for the handlers of a route under the name of the first.
type standIn struct {
	caddyhttp.MiddlewareHandler
	run caddyhttp.Handler
}

// CaddyModule returns the module information of the handler it stands for.
func (s standIn) CaddyModule() caddy.ModuleInfo {
	if m, ok := s.MiddlewareHandler.(caddy.Module); ok {
		return m.CaddyModule()
	}
	return caddy.ModuleInfo{}
}

func (s standIn) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return s.run.ServeHTTP(w, r)
}

// list compiles routes, which next comes after. Failed says that requests come
// here with an error, as a rule.
func (c *compiler) list(routes caddyhttp.RouteList, next caddyhttp.Handler, failed bool) *list {
	l := &list{routes: make([]route, len(routes)), next: next}
	for i, rt := range routes {
		after := next
		if i+1 < len(routes) {
			after = &step{l, i + 1}
		}
		to := &l.routes[i]
		*to = route{group: rt.Group, sets: rt.MatcherSets, terminal: rt.Terminal, failed: failed}
		if rt.Terminal {
			after = ending(failed)
			to.other = &chained{rt.Handlers, ending(!failed)}
		}
		to.run = c.chain(rt.Handlers, after, failed)
	}
	l.index = newIndex(l.routes)
	if l.index == nil {
		c.count.short += len(routes)
	} else {
		c.count.walked += len(l.index.always)
		c.count.indexed += len(routes) - len(l.index.always)
	}
	return l
}

func (c *compiler) chain(handlers []caddyhttp.MiddlewareHandler, next caddyhttp.Handler, failed bool) caddyhttp.Handler {
	for _, h := range slices.Backward(handlers) {
		if sub, ok := h.(*caddyhttp.Subroute); ok {
			next = c.subroute(sub, next, failed)
		} else {
			next = &link{h, next}
		}
	}
	return next
}

func (c *compiler) subroute(sub *caddyhttp.Subroute, next caddyhttp.Handler, failed bool) caddyhttp.Handler {
	routes := c.sub(sub.Routes, next, failed)
	if sub.Errors == nil {
		return routes
	}
	return &guarded{routes, c.sub(sub.Errors.Routes, next, true), sub.Errors}
}

func (c *compiler) sub(routes caddyhttp.RouteList, next caddyhttp.Handler, failed bool) caddyhttp.Handler {
	if len(routes) == 0 {
		return next
	}
	return c.list(routes, next, failed)
}
