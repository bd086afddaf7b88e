package breaker

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// reason is why a request was not answered by an upstream.
type reason string

// The reasons. They are the codes of the refusals and label the metrics.
const (
	circuitOpen    reason = "circuit-open"
	busy           reason = "upstream-busy"
	deadlinePassed reason = "deadline-exceeded"
	noUpstream     reason = "upstream-unreachable"
	// The others are never heard by a client.
	gone        reason = "client-gone"
	budgetSpent reason = "retry-budget"
	noRetry     reason = "no-retry"
)

// ServeHTTP takes the request over the bridge, or answers it on this side.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	now := time.Now()
	if h.shut(now) {
		return h.instead(w, r, next, circuitOpen, nil, nil)
	}
	card := exchange.Of(r)
	x := h.crossing()
	x.h, x.began, x.card, x.client = h, now, card, bucketOf(r, card)
	h.route.purse.earn(h.RetryBudget)
	if allowed, byCaller, bounded := h.allowed(r); bounded {
		if allowed <= 0 {
			return h.instead(w, r, next, deadlinePassed, x, nil)
		}
		r = x.clock.arm(h, r, allowed, byCaller, now)
		defer x.clock.disarm()
	}
	why, err := x.guarded(w, r, next)
	switch why {
	case "":
		return err
	case gone:
		w.WriteHeader(499) // as the proxy itself does; nobody reads it
		return nil
	}
	return h.instead(w, r, next, why, x, err)
}

// guarded crosses once there is a place.
func (x *crossing) guarded(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (reason, error) {
	c := x.h.Concurrency
	if c == nil {
		return x.cross(w, r, next)
	}
	p := &x.h.route.place
	if !p.enter(r.Context(), c) {
		switch {
		case x.clock.passed():
			return deadlinePassed, nil
		case r.Context().Err() != nil:
			return gone, nil
		}
		return busy, nil
	}
	defer func() {
		if t := x.last; c.Adaptive && t != nil && !t.abandoned() {
			p.adaptive.learn(c, t.latency(), x.clock.passed(), p.inside.Load(), time.Now())
		}
		p.leave(c)
	}()
	return x.cross(w, r, next)
}

// cross runs the proxy and says why, if at all, something else must answer.
func (x *crossing) cross(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (reason, error) {
	// A broken stream makes the proxy panic: leases end all the same.
	defer x.finish()
	err := x.proxy(w, r, next)
	if err == nil {
		return "", nil
	}
	switch {
	case x.stopped == budgetSpent || x.stopped == noRetry:
		err = x.last.outcome()
	case x.stopped != "":
		return x.stopped, err
	case x.clock.passed() && x.last != nil && x.last.res == nil:
		return deadlinePassed, err
	}
	if x.unreachable(err) {
		return noUpstream, err
	}
	return "", err
}

// crossing returns one that may go the lean way where the configuration allows it.
func (h *Handler) crossing() *crossing {
	l := h.lean.Load()
	if l == nil {
		return new(crossing)
	}
	f := &forwarding{l: l}
	f.lean = f
	return &f.crossing
}

// proxy forwards the request, lean where that is exact.
func (x *crossing) proxy(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if f := x.lean; f != nil && f.accepts(w, r) {
		return f.forward()
	}
	if leave := x.enter(r.Context()); leave != nil {
		defer leave()
	}
	return x.h.proxy.ServeHTTP(w, r, next)
}

func (x *crossing) finish() {
	if x.chosen == nil && (x.last == nil || x.last.ended) {
		return
	}
	now := time.Now()
	x.release(now)
	if x.last != nil {
		x.last.end(now)
	}
}

// unreachable says that err means no upstream answered at all. An error of a
// handle_response route, or an answer that used up the retries, is none.
func (x *crossing) unreachable(err error) bool {
	if x.last != nil && x.last.res != nil {
		return false
	}
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	return ok && (he.StatusCode == http.StatusBadGateway || he.StatusCode == http.StatusServiceUnavailable || he.StatusCode == http.StatusGatewayTimeout)
}

// touched says that an upstream has begun to read the request's body, so that
// no other can get it whole.
func (x *crossing) touched() bool {
	return x.last != nil && x.last.out.read.Load()
}
