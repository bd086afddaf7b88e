package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	// fresh is how long results serve further probes, so that probing faster
	// loads nothing.
	fresh = time.Second
	// patience is how long a round of checks may take.
	patience = time.Second
)

// checker is what an app or a handler implements to be asked. Nil means ready.
type checker interface {
	Ready(context.Context) error
}

// named is a handler that guards upstreams under a name of its own.
type named interface{ Guards() string }

// upstreams is the check of all such handlers together.
const upstreams = "upstreams"

// result is what one check found.
type result struct {
	name string
	err  error
	// proxy is which handler was asked, of the check upstreams; shut are those that
	// no upstream admits requests for, of the joined result, and known all of them.
	proxy       string
	shut, known []string
	// serving says that the checked thing fails but still does its work.
	serving bool
}

// pulse is the one cache of the process: however many sites answer probes,
// the checks run once a second.
var pulse cache

type cache struct {
	mu      sync.Mutex // guards the rest, and lets one round run at a time
	taken   time.Time
	config  context.Context
	results []result
}

// check returns results no older than a second, or false while no
// configuration runs.
func (c *cache) check(ctx context.Context) ([]result, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	active := caddy.ActiveContext()
	if active.Context == nil {
		return nil, false
	}
	if c.config == active.Context && time.Since(c.taken) < fresh {
		return c.results, true
	}
	// A prober that hangs up must not leave its cancelled results to the next.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	c.results = round(ctx, find(active))
	c.taken, c.config = time.Now(), active.Context
	return c.results, true
}

// round asks all peers at once: one that hangs must not hide the others.
func round(ctx context.Context, peers []peer) []result {
	answers := make(chan result, len(peers))
	for _, p := range peers {
		go func() { answers <- p.ask(ctx) }()
	}
	byName := make(map[string]result, len(peers))
	for range peers {
		select {
		case res := <-answers:
			if res.proxy != "" {
				res.known = []string{res.proxy}
			}
			if res.proxy != "" && res.err != nil {
				res.shut = []string{res.proxy}
			}
			byName[res.name] = res.join(byName[res.name])
		case <-ctx.Done():
		}
	}
	var results []result
	for _, p := range peers {
		res, answered := byName[p.name]
		if !answered {
			res = result{name: p.name, err: fmt.Errorf("no answer within %s", patience)}
		}
		if !slices.ContainsFunc(results, func(o result) bool { return o.name == p.name }) {
			results = append(results, res)
		}
	}
	return results
}

// join makes one result of two of one name; the worse one decides.
func (r result) join(other result) result {
	r.shut, r.known = append(r.shut, other.shut...), append(r.known, other.known...)
	switch {
	case other.err == nil:
	case r.err == nil:
		r.err, r.serving = other.err, other.serving
	default:
		r.err, r.serving = errors.Join(r.err, other.err), r.serving && other.serving
	}
	return r
}

// peer is something to ask.
type peer struct {
	name, proxy string
	checker
	// broken is why there is nothing to ask.
	broken error
}

func (p peer) ask(ctx context.Context) result {
	if p.broken != nil {
		return result{name: p.name, err: p.broken}
	}
	err := p.Ready(ctx)
	d, ok := errors.AsType[interface {
		error
		Degraded() bool
	}](err)
	return result{name: p.name, proxy: p.proxy, err: err, serving: ok && d.Degraded()}
}

// find returns the apps and handlers of the running configuration that can be
// asked.
func find(active caddy.Context) []peer {
	var peers []peer
	for _, name := range names {
		app, err := active.AppIfConfigured("sallyport_" + name)
		if errors.Is(err, caddy.ErrNotConfigured) {
			continue
		}
		c, asks := app.(checker)
		if err != nil || asks {
			peers = append(peers, peer{name: name, checker: c, broken: err})
		}
	}
	if app, err := active.AppIfConfigured("http"); err == nil {
		for _, server := range app.(*caddyhttp.App).Servers {
			peers = appendHandlers(peers, server.Routes)
			if server.Errors != nil {
				peers = appendHandlers(peers, server.Errors.Routes)
			}
			for _, route := range server.NamedRoutes {
				peers = appendHandlers(peers, caddyhttp.RouteList{*route})
			}
		}
	}
	return peers
}

// appendHandlers adds the handlers below routes that guard upstreams.
func appendHandlers(peers []peer, routes caddyhttp.RouteList) []peer {
	for _, route := range routes {
		for _, h := range route.Handlers {
			if sub, nested := h.(*caddyhttp.Subroute); nested {
				peers = appendHandlers(peers, sub.Routes)
			} else if c, asks := h.(checker); asks {
				p := peer{name: upstreams, checker: c}
				if n, has := h.(named); has {
					p.proxy = n.Guards()
				}
				peers = append(peers, p)
			}
		}
	}
	return peers
}
