package flags

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A matcher is provisioned before the routes behind it, so some of a server is
// there as modules already and the rest as JSON still. Both are read into stops:
// what matters of a route, in the order in which a request meets it.
type stop struct {
	flags    []string // of its matchers
	handlers []handler
	terminal bool
	group    string
}

type handler struct {
	name string
	sub  []stop
}

// Names of handlers that matter.
const (
	flagsHandler = "flags"
	jwtHandler   = "jwt"
	subroute     = "subroute"
	invoke       = "invoke"
)

// checkPlace refuses a flag matcher where the caller is not known yet but will
// be, or where a cookie could not be set.
func (a *App) checkPlace(ctx caddy.Context, flag string) error {
	modules := ctx.Modules()
	if len(modules) == 0 {
		return nil
	}
	app, ok := modules[0].(*caddyhttp.App)
	if !ok {
		return nil
	}
	for _, server := range app.Servers {
		s := &survey{app: a, server: server, only: flag}
		if err := s.walk(s.stops(server.Routes), false, false, false); err != nil {
			return err
		}
	}
	return nil
}

type survey struct {
	app    *App
	server *caddyhttp.Server
	only   string
	depth  int
}

// walk follows a request through stops. Known says that a `jwt` was met, fronted
// that `flags` was, and later that a `jwt` comes after the stops.
func (s *survey) walk(stops []stop, known, fronted, later bool) error {
	for i, at := range stops {
		behind := later
		for _, next := range stops[i+1:] {
			behind = behind || has(next.handlers, jwtHandler)
		}
		for _, flag := range at.flags {
			if flag != s.only {
				continue
			}
			if !known && s.app.Context.identified && (behind || has(at.handlers, jwtHandler)) {
				return fmt.Errorf("flag '%s' needs to know who is asking, but its matcher would run before jwt; put both into a route block, jwt first, or give the flags option's context a key that needs no token", flag)
			}
			if !fronted && s.app.Context.Anonymous == byCookie {
				return fmt.Errorf("flag '%s' tells anonymous callers apart by a cookie; the directive 'flags' must stand on its site to set it", flag)
			}
		}
		// What comes after this stop for a request that takes it.
		after := later && !at.terminal
		for _, next := range stops[i+1:] {
			exclusive := at.terminal || at.group != "" && at.group == next.group
			after = after || !exclusive && has(next.handlers, jwtHandler)
		}
		for j, h := range at.handlers {
			known = known || h.name == jwtHandler
			fronted = fronted || h.name == flagsHandler
			if err := s.walk(h.sub, known, fronted, after || has(at.handlers[j+1:], jwtHandler)); err != nil {
				return err
			}
			if !at.terminal {
				known = known || has(at.handlers[j:j+1], jwtHandler)
				fronted = fronted || has(at.handlers[j:j+1], flagsHandler)
			}
		}
	}
	return nil
}

// has says whether a handler is among these or below them.
func has(handlers []handler, name string) bool {
	for _, h := range handlers {
		if h.name == name {
			return true
		}
		for _, below := range h.sub {
			if has(below.handlers, name) {
				return true
			}
		}
	}
	return false
}

func (s *survey) stops(routes caddyhttp.RouteList) []stop {
	list := make([]stop, 0, len(routes))
	for _, r := range routes {
		at := stop{terminal: r.Terminal, group: r.Group, flags: flagsOf(r.MatcherSetsRaw)}
		for _, set := range r.MatcherSets {
			for _, m := range set {
				if f, ok := m.(*MatchFlag); ok {
					at.flags = append(at.flags, f.Flag)
				}
			}
		}
		for _, raw := range r.HandlersRaw {
			at.handlers = append(at.handlers, s.read(raw))
		}
		for _, h := range r.Handlers {
			at.handlers = append(at.handlers, s.module(h))
		}
		list = append(list, at)
	}
	return list
}

func flagsOf(sets caddyhttp.RawMatcherSets) (names []string) {
	for _, set := range sets {
		var m MatchFlag
		if json.Unmarshal(set["flag"], &m) == nil && m.Flag != "" {
			names = append(names, m.Flag)
		}
	}
	return names
}

// read is a handler that is JSON still.
func (s *survey) read(raw json.RawMessage) handler {
	var h struct {
		Handler string              `json:"handler"`
		Name    string              `json:"name"`
		Routes  caddyhttp.RouteList `json:"routes"`
	}
	if json.Unmarshal(raw, &h) != nil {
		return handler{} // another module's form; Caddy says what is wrong with it
	}
	switch h.Handler {
	case subroute:
		return handler{subroute, s.stops(h.Routes)}
	case invoke:
		return s.named(h.Name)
	}
	return handler{name: h.Handler}
}

func (s *survey) module(m caddyhttp.MiddlewareHandler) handler {
	switch h := m.(type) {
	case *caddyhttp.Subroute:
		return handler{subroute, s.stops(h.Routes)}
	case *caddyhttp.Invoke:
		return s.named(h.Name)
	case caddy.Module:
		return handler{name: h.CaddyModule().ID.Name()}
	}
	return handler{}
}

// mostInvoked ends what invokes itself.
const mostInvoked = 16

func (s *survey) named(name string) handler {
	r := s.server.NamedRoutes[name]
	if r == nil || s.depth == mostInvoked {
		return handler{name: invoke}
	}
	s.depth++
	defer func() { s.depth-- }()
	return handler{invoke, s.stops(caddyhttp.RouteList{*r})}
}
