package ratelimit

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// gather lists what the request asks of each zone it belongs to.
func (h *Handler) gather(asks []ask, r *http.Request) ([]ask, *reject.Refusal, error) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for _, z := range h.zones {
		if len(z.matchers) > 0 {
			match, err := z.matchers.AnyMatchWithError(r)
			if err != nil {
				return nil, nil, err
			}
			if !match {
				continue
			}
		}
		key, whole := z.template.fill(repl)
		if !whole && !z.community() {
			switch z.MissingKey {
			case "skip":
				continue
			case "refuse":
				return nil, keyMissing(z), nil
			case "share":
				key = "\x00nobody"
			default:
				ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
				key = "\x00" + z.template.group(ip)
			}
		}
		asks = append(asks, ask{zone: z, rule: z.ruleFor(repl), key: key, cost: z.costOf(repl), request: r, known: whole && z.verified})
	}
	return asks, nil, nil
}

// ruleFor returns the rule of the caller's tier.
func (z *Zone) ruleFor(repl *caddy.Replacer) *rule {
	if z.tiers == nil {
		return z.rule
	}
	if r := z.tiers[repl.ReplaceAll(z.Tier, "")]; r != nil {
		return r
	}
	return z.rule
}

// costOf returns what the request is charged. What is no number costs 1: a
// caller must not pass for less by sending nonsense.
func (z *Zone) costOf(repl *caddy.Replacer) float64 {
	if z.cost > 0 {
		return z.cost
	}
	if n, ok := parseCost(repl.ReplaceAll(z.Cost, "")); ok {
		return n
	}
	return 1
}

func parseCost(text string) (float64, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n <= largest) {
		return 0, false
	}
	return math.Ceil(n), true
}

func keyMissing(z *Zone) *reject.Refusal {
	return &reject.Refusal{
		Room:    "rate_limit",
		Kind:    exchange.LimitRefused,
		Status:  http.StatusBadRequest,
		Code:    "quota-key-missing",
		Title:   "The caller cannot be counted",
		Hint:    "The request lacks what this service counts callers by.",
		Members: []reject.Member{violated([]string{z.name})},
	}
}

// settle does what is left once the answer is there: charges what the request
// really cost, and frees its places.
func (h *Handler) settle(header http.Header, asks []ask) {
	now := instant(time.Now())
	for i := range asks {
		a := &asks[i]
		if !a.charged {
			continue
		}
		change := 0.0
		if name := a.zone.ResponseCost; name != "" {
			if n, ok := parseCost(header.Get(name)); ok {
				change = n - a.cost
			}
		}
		if a.rule.kind == concurrent {
			change = -a.cost
		}
		switch {
		case h.ledger == nil && change != 0:
			a.adjustLocal(now, change)
		case h.ledger != nil:
			if freed := a.adjustShared(now, change); freed != nil {
				h.await(freed)
			}
		}
	}
}

// await waits until the place is free in Redis, so that a caller who asks again
// as soon as the answer ends is not refused for the place of that answer.
func (h *Handler) await(freed <-chan struct{}) {
	timer := time.NewTimer(h.patience)
	defer timer.Stop()
	select {
	case <-freed:
	case <-timer.C:
	}
}

// adjustShared charges further cost, or refunds it where it is negative. Where
// it gives a place back, what it returns is closed when the place is free.
func (a *ask) adjustShared(now, change float64) (freed <-chan struct{}) {
	if a.stop != nil {
		a.stop()
	}
	acc := a.account
	acc.mu.Lock()
	defer acc.mu.Unlock()
	if a.rule.kind != bucket {
		a.rule.spend(&acc.own, now, change)
	}
	if a.member != "" {
		freed = endLease(acc, a.member)
	}
	if change != 0 {
		acc.chargeLocked(now, change)
		acc.queueLocked()
	}
	return freed
}
