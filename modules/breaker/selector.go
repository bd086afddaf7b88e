package breaker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Selector avoids upstreams whose circuit is open and leaves the choice between
// the others to a stock policy. It is put around the proxy's own policy by the
// handler and is not configured by hand.
type Selector struct {
	// InnerRaw is the policy that chooses. Default: `random`.
	InnerRaw json.RawMessage `json:"inner,omitempty" caddy:"namespace=http.reverse_proxy.selection_policies inline_key=policy"`

	inner reverseproxy.Selector
	// positional policies weigh upstreams by their place in the list, so they
	// must always see all of it.
	positional bool
	h          *Handler
}

// CaddyModule returns the Caddy module information.
func (*Selector) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.breaker",
		New: func() caddy.Module { return new(Selector) },
	}
}

// Provision loads the inner policy.
func (s *Selector) Provision(ctx caddy.Context) (err error) {
	if s.h, err = parent(ctx); err != nil {
		return fmt.Errorf("selection policy breaker %w", err)
	}
	s.inner = reverseproxy.RandomSelection{}
	if s.InnerRaw != nil {
		mod, err := ctx.LoadModule(s, "InnerRaw")
		if err != nil {
			return fmt.Errorf("load selection policy: %w", err)
		}
		s.inner = mod.(reverseproxy.Selector)
	}
	_, s.positional = s.inner.(*reverseproxy.WeightedRoundRobinSelection)
	return nil
}

// halt is an upstream that ends the proxy's loop: it stands for two sockets,
// which the proxy answers with an error before it does anything. A nil upstream
// would make it wait and ask again, and it would not notice a client that left.
var halt = &reverseproxy.Upstream{Dial: "halt:1-2"}

// Select returns an upstream together with a lease from its circuit, halt when
// there is nothing to wait for, and nil when the inner policy finds nobody.
func (s *Selector) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	x := crossingOf(r.Context())
	if x == nil {
		return s.inner.Select(pool, r, w)
	}
	return s.pick(x, pool, r, w, time.Now())
}

// pick is Select for the crossing.
func (s *Selector) pick(x *crossing, pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	x.release(now)
	if why := x.mayTry(r, now); why != "" {
		x.stopped = why
		return halt
	}
	if s.h.calm(pool, now) {
		u := s.inner.Select(pool, r, w)
		if u == nil || x.lend(u, now) {
			return u
		}
	}
	return s.selectAround(pool, r, w, x, now)
}

// mayTry says why no further attempt may be made.
func (x *crossing) mayTry(r *http.Request, now time.Time) reason {
	switch {
	case x.clock.passed() || !x.clock.at.IsZero() && !now.Before(x.clock.at):
		return deadlinePassed
	case r.Context().Err() != nil:
		return gone
	case x.tries == 0:
		return ""
	case x.last.connecting && (x.last.probe || !x.h.retriesProbes):
		x.clock.resume(now)
		return "" // what could not connect was no burden to anybody
	case x.h.retriesProbes:
		return noRetry
	case !x.h.route.purse.spend(x.h.RetryBudget, now):
		retriesTotal.WithLabelValues(x.h.Policy.Name, "refused").Inc()
		return budgetSpent
	}
	retriesTotal.WithLabelValues(x.h.Policy.Name, "sent").Inc()
	x.clock.resume(now)
	return ""
}

// lend takes a lease for u. It says no where the circuit does.
func (x *crossing) lend(u *reverseproxy.Upstream, now time.Time) bool {
	t := x.h.circuitOf(u, now)
	if t == nil {
		return true // the address is known only once the proxy dials: see Transport
	}
	lease, ok := t.Admit(now, &x.h.settings)
	if !ok {
		if x.h.Policy.Mode != shadow {
			return false
		}
		refusedTotal.WithLabelValues(x.h.Policy.Name, shadow, string(circuitOpen)).Inc()
	}
	x.chosen, x.lease = t, lease
	return true
}

// selectAround chooses between those whose circuit lets requests through.
func (s *Selector) selectAround(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter, x *crossing, now time.Time) *reverseproxy.Upstream {
	if x.h.Policy.Mode == shadow {
		u := s.inner.Select(pool, r, w)
		if u != nil {
			x.lend(u, now)
		}
		return u
	}
	usable, forced := s.h.usable(pool, now)
	for len(usable) > 0 {
		u := s.choose(pool, usable, r, w)
		if u == nil {
			return nil
		}
		if x.lend(u, now) || slices.Contains(forced, u) {
			if x.chosen == nil {
				x.chosen = s.h.circuitOf(u, now) // sent all the same: counted without a lease
			}
			return u
		}
		// Another request took the last probe in the meantime.
		usable = slices.DeleteFunc(usable, func(o *reverseproxy.Upstream) bool { return o == u })
	}
	x.stopped = circuitOpen
	return halt
}

func (s *Selector) choose(pool, usable reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	if !s.positional {
		return s.inner.Select(usable, r, w)
	}
	for range 2 * len(pool) {
		u := s.inner.Select(pool, r, w)
		if u == nil || slices.Contains(usable, u) {
			return u
		}
	}
	for _, u := range usable {
		if u.Available() {
			return u
		}
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*Selector)(nil)
	_ reverseproxy.Selector = (*Selector)(nil)
)
