package breaker

import (
	"slices"

	"github.com/caddyserver/caddy/v2"
)

// The ways that requests take to an upstream. They label the metric of sends.
const (
	leanWay   = "lean"   // forwarded by this package
	directWay = "direct" // by reverse_proxy, over our transport
	stockWay  = "stock"  // by reverse_proxy, over its own
)

// way is how a proxy forwards plain requests, and why it is not a cheaper way.
type way struct {
	Way string `json:"way"`
	Why string `json:"why,omitempty"`
}

func (w way) String() string {
	if w.Why == "" {
		return w.Way
	}
	return w.Way + ": " + w.Why
}

// way says how h forwards plain requests.
func (h *Handler) way() way {
	l := h.lean.Load()
	if l != nil && l.reaches() {
		return way{Way: leanWay}
	}
	w := way{Way: stockWay, Why: "the upstreams speak HTTP/2, or have not been asked yet"}
	if l == nil {
		w.Why = (*h.leanNot.Load()).Error()
	}
	if t, ok := h.proxy.Transport.(*Transport); ok && t.direct != nil && !h.hasSockets() {
		w.Way = directWay
	}
	return w
}

// hasSockets says whether an upstream is a Unix socket. Its path stands where
// the host of a request would, which the direct way does not send.
func (h *Handler) hasSockets() bool {
	for dial := range h.byDial {
		if network, _, _, err := caddy.SplitNetworkAddress(dial); err == nil && caddy.IsUnixNetwork(network) {
			return true
		}
	}
	return false
}

// joinHandler lists h with its circuits, for operators.
func (h *Handler) joinHandler() {
	for _, t := range h.byDial {
		t.mu.Lock()
		t.handlers = append(t.handlers, h)
		t.mu.Unlock()
	}
	h.app.joinHandler(h)
}

func (h *Handler) leaveCircuits() {
	for _, t := range h.byDial {
		t.mu.Lock()
		t.handlers = slices.DeleteFunc(t.handlers, func(o *Handler) bool { return o == h })
		t.mu.Unlock()
	}
}

// ways are those of all the proxies that use the circuit, each once.
func (t *tracked) ways() (all []way) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.handlers {
		if w := h.way(); !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}

// settleWays takes the lean way from proxies whose upstreams another proxy
// counts the requests of: it would not see theirs. It is done once all proxies
// are known.
func (a *App) settleWays() {
	a.mu.Lock()
	defer a.mu.Unlock()
	counted := make(map[string]string)
	for _, h := range a.handlers {
		if why := h.countsInside(); why != nil {
			for dial := range h.byDial {
				counted[dial] = why.Error()
			}
		}
	}
	for _, h := range a.handlers {
		for dial := range h.byDial {
			if why, ok := counted[dial]; ok && h.lean.Load() != nil {
				h.giveUpLean("of another proxy: " + why)
			}
		}
	}
}
