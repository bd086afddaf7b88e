package breaker

import (
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// circuitOf returns the circuit of u, or nil where its address holds a
// placeholder and is not known yet.
func (h *Handler) circuitOf(u *reverseproxy.Upstream, now time.Time) *tracked {
	if t, ok := h.byDial[u.Dial]; ok {
		return t
	}
	if strings.Contains(u.Dial, "{") {
		return nil
	}
	return h.herd.of(u.Dial, now)
}

// calm says that every circuit of the pool lets everything through, which is
// how nearly every request finds them.
func (h *Handler) calm(pool reverseproxy.UpstreamPool, now time.Time) bool {
	if len(pool) == len(h.fixed) && (len(pool) == 0 || pool[0] == h.proxy.Upstreams[0]) {
		for _, t := range h.fixed {
			if t != nil && !t.Calm() {
				return false
			}
		}
		return true
	}
	for _, u := range pool {
		if t := h.circuitOf(u, now); t != nil && !t.Calm() {
			return false
		}
	}
	return true
}

// usable returns the upstreams that a request may go to, and those among them
// that it may go to although their circuit says no: max_ejected and panic are
// for pools that would rather be slow than small.
func (h *Handler) usable(pool reverseproxy.UpstreamPool, now time.Time) (usable, forced reverseproxy.UpstreamPool) {
	type ejected struct {
		*reverseproxy.Upstream
		since time.Time
	}
	var out []ejected
	for _, u := range pool {
		t := h.circuitOf(u, now)
		if t == nil || t.Peek(now, &h.settings) {
			usable = append(usable, u)
		} else {
			out = append(out, ejected{u, t.View(now).Since})
		}
	}
	limit := int(h.Policy.MaxEjected * float64(len(pool)))
	if h.Policy.Panic > 0 && float64(len(usable)) < h.Policy.Panic*float64(len(pool)) {
		limit = 0
	}
	if len(out) <= limit {
		return usable, nil
	}
	// Those that opened first have been down for longest: they stay out.
	slices.SortStableFunc(out, func(a, b ejected) int { return a.since.Compare(b.since) })
	for _, e := range out[limit:] {
		usable, forced = append(usable, e.Upstream), append(forced, e.Upstream)
	}
	return usable, forced
}

// shut says that no upstream of a fixed pool would take a request, and when one
// may again. It spares a refused request the proxy's preparations.
func (h *Handler) shut(now time.Time) bool {
	if h.herd != nil || len(h.fixed) == 0 || h.Policy.Mode == shadow {
		return false
	}
	for _, t := range h.fixed {
		if t.Calm() || t.Peek(now, &h.settings) {
			return false
		}
	}
	usable, _ := h.usable(h.proxy.Upstreams, now)
	return len(usable) == 0
}

// retryAfter is when the first circuit may let a request through again.
func (h *Handler) retryAfter(now time.Time) time.Duration {
	var soonest time.Duration
	for _, t := range h.fixed {
		if t == nil {
			continue
		}
		if d := t.RetryAfter(now); soonest == 0 || d < soonest {
			soonest = d
		}
	}
	return max(soonest, time.Second)
}
