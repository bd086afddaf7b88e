package breaker

import (
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// told is what reverse_proxy's placeholders say of a request. They are asked
// for by few requests, so they are made when asked.
type told struct {
	hop                      *hop // the last one chosen
	requests, fails          int  // of the hop, when it was chosen
	res                      *http.Response
	latency, spent, total    time.Duration
	retries                  int
	done, counted, delivered bool
	before                   *told // of an earlier proxy on the same request
}

// follow makes t what the placeholders of the request say.
func (t *told) follow(card *exchange.Exchange) {
	t.before, _ = card.Proxied.(*told)
	card.Proxied = t
}

// choose notes the upstream of the next attempt.
func (t *told) choose(h *hop) {
	t.hop = h
	t.requests, t.fails = h.Upstream.NumRequests()+int(h.inside.Load()), h.Upstream.Fails()
}

// answer notes what the upstream answered.
func (t *told) answer(res *http.Response, took time.Duration) {
	t.res, t.latency = res, took
}

const toldPrefix = "http.reverse_proxy."

// Placeholder implements exchange.Proxied.
func (t *told) Placeholder(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, toldPrefix)
	for ; ours && t != nil; t = t.before {
		if v, ok := t.value(name); ok {
			return v, true
		}
	}
	return nil, false
}

func (t *told) value(name string) (any, bool) {
	if upstream, ok := strings.CutPrefix(name, "upstream."); ok {
		return t.ofUpstream(upstream)
	}
	if field, ok := strings.CutPrefix(name, "header."); ok {
		if t.res == nil {
			return nil, false
		}
		values, ok := t.res.Header[field]
		return strings.Join(values, ","), ok
	}
	switch name {
	case "status_code":
		if t.res != nil {
			return t.res.StatusCode, true
		}
	case "status_text":
		if t.res != nil {
			return t.res.Status, true
		}
	case "duration":
		return t.total, t.done
	case "duration_ms":
		return millis(t.total), t.done
	case "retries":
		return t.retries, t.counted
	}
	return nil, false
}

func (t *told) ofUpstream(name string) (any, bool) {
	switch name {
	case "latency":
		return t.latency, t.res != nil
	case "latency_ms":
		return millis(t.latency), t.res != nil
	case "duration":
		return t.spent, t.delivered
	case "duration_ms":
		return millis(t.spent), t.delivered
	}
	if t.hop == nil {
		return nil, false
	}
	switch name {
	case "address":
		return t.hop.String(), true
	case "hostport":
		return t.hop.Address, true
	case "host":
		return t.hop.Host, true
	case "port":
		return t.hop.Port, true
	case "requests":
		return t.requests, true
	case "max_requests":
		return t.hop.Upstream.MaxRequests, true
	case "fails":
		return t.fails, true
	}
	return nil, false
}

func millis(d time.Duration) float64 { return d.Seconds() * 1e3 }
