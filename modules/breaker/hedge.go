package breaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// Hedge sends a request that is slow to be answered to a second upstream as
// well; the first good answer is taken and the other attempt ended. It is for
// requests without a body that may be sent twice: GET, HEAD and OPTIONS.
type Hedge struct {
	// After is how long the first upstream may take. Required. Each hedge costs
	// one retry of the retry budget.
	After caddy.Duration `json:"after"`
}

// check refuses hedges that could not work as expected.
func (g *Hedge) check(p *reverseproxy.Handler) error {
	if g.After <= 0 {
		return errors.New("takes how long the first upstream may take, such as 100ms")
	}
	if len(p.Upstreams) < 2 || p.DynamicUpstreams != nil {
		return errors.New("needs two upstreams or more that stand in the configuration")
	}
	if t, ok := p.Transport.(reverseproxy.ProxyProtocolTransport); ok && t.ProxyProtocolEnabled() {
		return errors.New("cannot be used with the PROXY protocol")
	}
	return nil
}

// hedges says whether req may be sent twice.
func (h *Handler) hedges(req *http.Request) bool {
	if h.Hedge == nil || req.Body != nil && req.Body != http.NoBody || req.Header.Get("Upgrade") != "" {
		return false
	}
	return req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodOptions
}

// arrival is how one of two attempts ended.
type arrival struct {
	t   *try
	res *http.Response
	err error
}

// race sends req, and after a while to a second upstream. Only the sending is
// done elsewhere: what is written on the card is written here, on the request's
// goroutine.
func (t *Transport) race(x *crossing, req *http.Request, now time.Time) (*http.Response, error) {
	// A second sender must not share the request's variables with the first.
	vars, _ := req.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	vars = maps.Clone(vars)
	arrivals := make(chan arrival, 2) // room for both: no sender is ever stuck
	first := t.dispatch(x, req, now, arrivals)
	timer := time.NewTimer(time.Duration(x.h.Hedge.After))
	defer timer.Stop()
	var second *try
	for out := 1; ; {
		select {
		case <-timer.C:
			if second = t.hedge(x, req, first, vars, arrivals); second != nil {
				out++
			}
		case a := <-arrivals:
			out--
			if out > 0 && !a.good() {
				a.discard() // the other may do better
				continue
			}
			if out > 0 {
				loser := first
				if a.t == first {
					loser = second
				}
				loser.lose(time.Now())
			}
			if second != nil {
				hedgesTotal.WithLabelValues(x.h.Policy.Name, map[bool]string{true: "won", false: "lost"}[a.t == second]).Inc()
			}
			x.last = a.t
			return a.land(x)
		}
	}
}

// dispatch sends out on a goroutine that ends with the attempt.
func (t *Transport) dispatch(x *crossing, req *http.Request, now time.Time, arrivals chan<- arrival) *try {
	ctx, cancel := context.WithCancel(req.Context())
	req = req.Clone(ctx) // transports write on the URL of what they send
	try := x.begin(req, now)
	try.cancel = cancel
	go func() {
		res, err := t.send(req)
		if err == nil && ctx.Err() != nil {
			_ = res.Body.Close() // it came when nobody waited for it any more
		}
		arrivals <- arrival{try, res, err}
	}()
	return try
}

// hedge sends the first attempt's request to another upstream, if one admits it
// and the budget allows.
func (t *Transport) hedge(x *crossing, req *http.Request, first *try, vars map[string]any, arrivals chan<- arrival) *try {
	now := time.Now()
	u := x.another(first, now)
	if u == nil {
		return nil
	}
	addr, err := caddy.ParseNetworkAddress(u.Dial)
	if err != nil || addr.PortRangeSize() != 1 {
		x.release(now)
		return nil
	}
	di := reverseproxy.DialInfo{
		Upstream: u, Network: addr.Network, Address: addr.JoinHostPort(0),
		Host: addr.Host, Port: strconv.Itoa(int(addr.StartPort)),
	}
	ctx := context.WithValue(req.Context(), dialInfoKey, di)
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, vars)
	second := req.Clone(ctx)
	if was, ok := reverseproxy.GetDialInfo(req.Context()); ok && req.Host == was.Address {
		second.Host = di.Address
	}
	second.URL.Host = di.Address
	return t.dispatch(x, second, now, arrivals)
}

// dialInfoKey is where the proxy's transport looks for the address to dial.
const dialInfoKey caddy.CtxKey = "reverse_proxy.dial_info"

// another takes a lease of an upstream that is not the first's.
func (x *crossing) another(first *try, now time.Time) *reverseproxy.Upstream {
	pool := slices.Clone(x.h.proxy.Upstreams)
	rand.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	for _, u := range pool {
		t := x.h.byDial[u.Dial]
		if t == nil || t == first.of || !u.Available() || !t.Peek(now, &x.h.settings) {
			continue
		}
		if !x.h.route.purse.spend(x.h.RetryBudget, now) {
			hedgesTotal.WithLabelValues(x.h.Policy.Name, "refused").Inc()
			return nil
		}
		if x.lend(u, now) {
			return u
		}
	}
	return nil
}

// good says that a is an answer worth having.
func (a arrival) good() bool {
	return a.err == nil && !slices.Contains(a.t.x.h.Policy.FailStatus, a.res.StatusCode)
}

// land settles the attempt that the request goes on with.
func (a arrival) land(x *crossing) (*http.Response, error) {
	if a.err == nil && !x.clock.reached() {
		_ = a.res.Body.Close()
		a.err = errDeadline
	}
	if a.err != nil {
		return nil, a.t.failed(a.err)
	}
	a.t.answered(a.res)
	return a.res, nil
}

// discard settles an attempt that failed while another is under way.
func (a arrival) discard() {
	if a.err != nil {
		_ = a.t.failed(a.err)
		return
	}
	a.t.answered(a.res)
	_ = a.res.Body.Close()
}

var errHedged = fmt.Errorf("another upstream answered first: %w", context.Canceled)

// lose ends an attempt that was not needed. That it was slower says something
// only where the operator said what slow is.
func (t *try) lose(now time.Time) {
	t.Err = errHedged
	if limit := time.Duration(t.x.h.Policy.SlowAfter); limit > 0 && now.Sub(t.Began) >= limit {
		t.slow = true
		t.settle(now, success)
	}
	t.settle(now, circuit.Result{Outcome: circuit.Ignored})
	t.end(now)
}
