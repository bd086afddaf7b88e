package telemetry

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// unmatched is for requests that no configured route answers.
var unmatched = newRoute("unmatched", "")

// table finds the configured route that will answer a request, by the path and
// method matchers behind a telemetry handler. Other matchers are not asked:
// they may cost, or depend on what guards have yet to find out.
type table struct {
	entries []entry
	finder  *finder // nil compares all entries in turn
	// rest is for requests that none of the entries fits.
	rest *route
}

type entry struct {
	match   pathPattern
	methods []string
	route   *route
	// under holds the routes within, which see the path without strip.
	under *table
	strip string
}

// find returns the route for r as the client asked.
func (t *table) find(r *http.Request) *route {
	return t.lookup(r, r.URL.Path)
}

func (t *table) lookup(r *http.Request, path string) *route {
	i := t.first(r, path)
	if i < 0 {
		return t.rest
	}
	e := &t.entries[i]
	if e.under != nil {
		if found := e.under.lookup(r, strings.TrimPrefix(path, e.strip)); found != unmatched {
			return found
		}
	}
	return e.route
}

func (t *table) first(r *http.Request, path string) int {
	if t.finder != nil && !odd(path) && ascii(path) {
		return t.finder.first(t, r, path)
	}
	for i := range t.entries {
		if t.entries[i].fits(r, path) {
			return i
		}
	}
	return -1
}

func (e *entry) fits(r *http.Request, path string) bool {
	return e.match.fits(r, path) && e.allows(r.Method)
}

func (e *entry) allows(method string) bool {
	if len(e.methods) == 0 {
		return true
	}
	for _, m := range e.methods {
		if m == method {
			return true
		}
	}
	return false
}

// pathPattern is one pattern of Caddy's path matcher. Exact paths and
// prefixes, which is what nearly all are, are compared here; the rest, and odd
// paths, are left to Caddy.
type pathPattern struct {
	text   string
	prefix bool
	slow   caddyhttp.MatchPath
}

func newPattern(text string) pathPattern {
	p := pathPattern{slow: caddyhttp.MatchPath{strings.ToLower(text)}}
	p.text, p.prefix = strings.CutSuffix(text, "*")
	if strings.ContainsAny(p.text, "*?[%\\") || strings.Contains(p.text, "//") {
		p.text = ""
		p.prefix = text == "*" || text == "/*"
	}
	return p
}

func (p *pathPattern) fits(r *http.Request, path string) bool {
	if p.text == "" && p.prefix {
		return true
	}
	if p.text == "" || odd(path) {
		if path != r.URL.Path {
			return false // below a stripped prefix Caddy's matcher would see another path
		}
		ok, _ := p.slow.MatchWithError(r)
		return ok
	}
	if p.prefix {
		return len(path) >= len(p.text) && strings.EqualFold(path[:len(p.text)], p.text)
	}
	return strings.EqualFold(path, p.text)
}

// odd says that Caddy's matcher may see another path.
func odd(path string) bool { return strings.Contains(path, "//") || strings.Contains(path, "/.") }

// tableOf reads the routes behind h out of its configuration.
func tableOf(ctx caddy.Context, h *Handler) *table {
	nothing := &table{rest: unmatched}
	app, err := ctx.AppIfConfigured("http")
	if err != nil {
		return nothing
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		if t := search(server.Routes, h, ""); t != nil {
			return t
		}
	}
	return nothing
}

// search looks for h and returns the table of what comes after it.
func search(routes caddyhttp.RouteList, h *Handler, host string) *table {
	for i, rt := range routes {
		at := host
		if own := hostOf(rt); own != "" {
			at = own
		}
		for j, handler := range rt.Handlers {
			if handler == caddyhttp.MiddlewareHandler(h) {
				behind := append(caddyhttp.RouteList{{Handlers: rt.Handlers[j+1:]}}, routes[i+1:]...)
				return build(behind, scopeOf{host: at})
			}
			if sub, ok := handler.(*caddyhttp.Subroute); ok {
				if t := search(sub.Routes, h, at); t != nil {
					return t
				}
			}
		}
	}
	return nil
}

// scopeOf is where in the configuration a list of routes stands.
type scopeOf struct {
	host string
	// base is the path that has been stripped on the way.
	base string
	// outer is the pattern of the route around.
	outer string
}

func build(routes caddyhttp.RouteList, at scopeOf) *table {
	t := &table{rest: unmatched}
	proxy := false // of a route whose matchers are not asked
	for _, rt := range routes {
		does := look(rt.Handlers)
		if does.strip != "" && len(rt.MatcherSets) == 0 {
			at.base += does.strip
		}
		if !does.answers {
			continue
		}
		sets := rt.MatcherSets
		if len(sets) == 0 {
			sets = caddyhttp.MatcherSets{nil}
		}
		for _, set := range sets {
			paths, methods, others := read(set)
			if len(paths) == 0 && others {
				proxy = proxy || does.proxy
				t.rest = at.route("*", does.proxy || proxy)
				continue
			}
			if len(paths) == 0 {
				paths = []string{"*"}
			}
			for _, p := range paths {
				t.entries = append(t.entries, newEntry(rt, p, methods, does, at))
			}
		}
	}
	t.finder = newFinder(t.entries)
	return t
}

func newEntry(rt caddyhttp.Route, path string, methods []string, does deeds, at scopeOf) entry {
	e := entry{match: newPattern(path), methods: methods, route: at.route(path, does.proxy)}
	inner := at
	inner.outer = at.full(path)
	for _, h := range rt.Handlers {
		if sub, ok := h.(*caddyhttp.Subroute); ok {
			if under := build(sub.Routes, inner); len(under.entries) > 0 {
				e.under, e.strip = under, does.strip
			}
		}
	}
	return e
}

// full is the pattern as a client would have to ask for it.
func (s scopeOf) full(path string) string {
	if path == "*" {
		if s.outer != "" {
			return s.outer
		}
		return "/*"
	}
	return s.base + path
}

func (s scopeOf) route(path string, proxy bool) *route {
	pattern := s.full(path)
	r := newRoute(s.host+pattern, pattern)
	r.proxy = proxy
	return r
}

// deeds is what the handlers of a route do.
type deeds struct {
	answers, proxy bool
	strip          string
}

// answering are the handlers that end a request. A guard in a route of its
// own, with a path matcher of its own, does not name the route.
var answering = map[string]bool{
	"reverse_proxy": true, "breaker": true, "static_response": true, "file_server": true, "error": true,
	"metrics": true, "acme_server": true, "admin_api": true, "templates": true,
}

func look(handlers []caddyhttp.MiddlewareHandler) (d deeds) {
	for _, h := range handlers {
		switch h := h.(type) {
		case *caddyhttp.Subroute:
			for _, rt := range h.Routes {
				inner := look(rt.Handlers)
				d.answers, d.proxy = d.answers || inner.answers, d.proxy || inner.proxy
				if len(rt.MatcherSets) == 0 && d.strip == "" {
					d.strip = inner.strip
				}
			}
		case *rewrite.Rewrite:
			d.strip = h.StripPathPrefix
		case caddy.Module:
			name := h.CaddyModule().ID.Name()
			d.answers = d.answers || answering[name]
			d.proxy = d.proxy || name == "reverse_proxy"
		}
	}
	return d
}

func read(set caddyhttp.MatcherSet) (paths, methods []string, others bool) {
	for _, m := range set {
		switch m := m.(type) {
		case caddyhttp.MatchPath:
			paths = append(paths, m...)
		case *caddyhttp.MatchPath:
			paths = append(paths, *m...)
		case caddyhttp.MatchMethod:
			methods = append(methods, m...)
		case *caddyhttp.MatchMethod:
			methods = append(methods, *m...)
		case caddyhttp.MatchHost, *caddyhttp.MatchHost:
		default:
			others = true
		}
	}
	return paths, methods, others
}

func hostOf(rt caddyhttp.Route) string {
	for _, set := range rt.MatcherSets {
		for _, m := range set {
			switch m := m.(type) {
			case caddyhttp.MatchHost:
				return strings.Join(m, ",")
			case *caddyhttp.MatchHost:
				return strings.Join(*m, ",")
			}
		}
	}
	return ""
}
