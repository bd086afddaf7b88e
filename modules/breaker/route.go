package breaker

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// route is what the requests of one policy to one set of upstreams share,
// whichever configuration they came by.
type route struct {
	place place
	purse purse
}

// routeKey names a route without any threshold.
type routeKey struct{ policy, upstreams string }

func acquireRoute(k routeKey) (*route, error) {
	v, _, err := pool.LoadOrNew(k, func() (caddy.Destructor, error) {
		r := new(route)
		r.purse.held.Store(purseStart)
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*route), nil
}

// Destruct has nothing to end.
func (r *route) Destruct() error { return nil }

func (h *Handler) acquireRoute() error {
	var addrs []string
	for _, u := range h.proxy.Upstreams {
		addrs = append(addrs, u.Dial)
	}
	h.destination = strings.Join(addrs, " ")
	if h.dynamicRaw != nil {
		h.destination = strings.TrimSpace(h.destination + " dynamic")
	}
	k := routeKey{h.Policy.Name, h.destination + string(h.dynamicRaw)}
	r, err := acquireRoute(k)
	if err != nil {
		return err
	}
	h.route = r
	h.taken = append(h.taken, k)
	h.app.joinRoute(h)
	return nil
}
