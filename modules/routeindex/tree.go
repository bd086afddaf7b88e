package routeindex

import (
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddyserver/caddy/v2"
)

// groups is the key under which a request carries the groups of routes that
// have had their route.
const groups = caddy.CtxKey("route_group")

// list is a list of routes, put together once, and what comes after it. It is
// never written again.
type list struct {
	routes []route
	index  *index // nil asks every route
	next   caddyhttp.Handler
}

// ServeHTTP goes through the list from its beginning.
func (l *list) ServeHTTP(w http.ResponseWriter, r *http.Request) error { return l.from(0, w, r) }

// from serves r with the first route from i on that matches. That route's
// handlers decide whether the search goes on.
func (l *list) from(i int, w http.ResponseWriter, r *http.Request) error {
	rt, err := l.find(i, r)
	switch {
	case err != nil:
		return err
	case rt == nil:
		return l.next.ServeHTTP(w, r)
	case rt.terminal && carriesError(r) != rt.failed:
		return rt.other.ServeHTTP(w, r)
	default:
		return rt.run.ServeHTTP(w, r)
	}
}

func (l *list) find(i int, r *http.Request) (*route, error) {
	if l.index != nil {
		return l.lookUp(i, r)
	}
	for ; i < len(l.routes); i++ {
		if match, err := l.routes[i].matches(r); match || err != nil {
			return &l.routes[i], err
		}
	}
	return nil, nil
}

// lookUp asks those routes that the index proposes, with the request as it is
// now: a handler may have rewritten it since the last look.
func (l *list) lookUp(i int, r *http.Request) (*route, error) {
	for {
		var room [8][]int32
		path, host := r.URL.Path, r.Host
		proposed := l.index.propose(room[:0], r, i)
		for {
			i = first(proposed)
			if i < 0 {
				return nil, nil
			}
			if match, err := l.routes[i].matches(r); match || err != nil {
				return &l.routes[i], err
			}
			if r.URL.Path != path || r.Host != host { // by a matcher
				i++
				break
			}
		}
	}
}

// step is what comes after a route: the rest of its list.
type step struct {
	list *list
	i    int
}

func (s *step) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	return s.list.from(s.i, w, r)
}

// route is one route with its handlers put together.
type route struct {
	group string
	sets  caddyhttp.MatcherSets
	run   caddyhttp.Handler

	// What a terminal route ends in depends on whether the request carries an
	// error when it matches. Run is for failed, which is so in error routes, and
	// other for the contrary.
	terminal, failed bool
	other            caddyhttp.Handler
}

// matches asks the matchers, and takes the group's place if they match.
func (rt *route) matches(r *http.Request) (bool, error) {
	var satisfied map[string]struct{}
	if rt.group != "" {
		satisfied = r.Context().Value(groups).(map[string]struct{})
		if _, done := satisfied[rt.group]; done {
			return false, nil
		}
	}
	match, err := rt.sets.AnyMatchWithError(r)
	if err != nil || !match {
		return false, err
	}
	if satisfied != nil {
		satisfied[rt.group] = struct{}{}
	}
	return true, nil
}

func carriesError(r *http.Request) bool {
	_, ok := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	return ok
}

// link is a handler with what comes after it.
type link struct {
	handler caddyhttp.MiddlewareHandler
	next    caddyhttp.Handler
}

func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	return l.handler.ServeHTTP(w, r, l.next)
}

// chain puts handlers in front of next and leaves subroutes as they are.
func chain(handlers []caddyhttp.MiddlewareHandler, next caddyhttp.Handler) caddyhttp.Handler {
	for _, h := range slices.Backward(handlers) {
		next = &link{h, next}
	}
	return next
}

// chained does so for each request.
type chained struct {
	handlers []caddyhttp.MiddlewareHandler
	next     caddyhttp.Handler
}

func (c *chained) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	return chain(c.handlers, c.next).ServeHTTP(w, r)
}

// guarded is a subroute with routes for its errors.
type guarded struct {
	routes, errors caddyhttp.Handler
	config         *caddyhttp.HTTPErrorConfig
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	err := g.routes.ServeHTTP(w, r)
	if err == nil {
		return nil
	}
	return g.errors.ServeHTTP(w, g.config.WithError(r, err))
}

// nothing is what a request meets that no route has answered.
var nothing = caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
	caddyhttp.SetVar(r.Context(), "unhandled", true)
	return nil
})

// status answers a request that carries an error with the error's status. It
// is Caddy's own: a terminal route without handlers ends there.
var status = caddyhttp.Route{Terminal: true}.Compile(nil)

// ending is what comes after a terminal route.
func ending(failed bool) caddyhttp.Handler {
	if failed {
		return status
	}
	return nothing
}
