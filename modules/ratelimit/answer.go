package ratelimit

import (
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

const problemTypes = "https://iana.org/assignments/http-problem-types#"

// setHeaders writes the RateLimit and RateLimit-Policy fields
// (draft-ietf-httpapi-ratelimit-headers), one item for each zone. An upstream's
// own fields are added behind them.
func setHeaders(h http.Header, asks []ask) {
	var room [128]byte
	limit := room[:0]
	for i := range asks {
		if i > 0 {
			limit = append(limit, ',')
		}
		limit = asks[i].appendItem(limit)
	}
	if len(asks) == 1 {
		h["Ratelimit-Policy"] = []string{asks[0].rule.policy}
	} else {
		var policies []byte
		for i := range asks {
			if i > 0 {
				policies = append(policies, ',')
			}
			policies = append(policies, asks[i].rule.policy...)
		}
		h["Ratelimit-Policy"] = []string{string(policies)}
	}
	h["Ratelimit"] = []string{string(limit)}
}

// appendItem writes the credit left and t. While there is credit t is the time
// until the key is as good as new, so that r divided by t suggests no burst;
// without credit it is the time to wait.
func (a *ask) appendItem(b []byte) []byte {
	b = append(b, a.rule.item...)
	b = append(b, ";r="...)
	seconds := math.Ceil(a.full / 1e6)
	if a.wait > 0 {
		seconds = math.Max(math.Ceil(a.wait/1e6), 1)
	}
	b = strconv.AppendInt(b, a.left, 10)
	b = append(b, ";t="...)
	return strconv.AppendInt(b, int64(seconds), 10)
}

// refuse answers a request that at least one zone does not admit.
func refuse(w http.ResponseWriter, r *http.Request, asks []ask) error {
	var violated []string
	for i := range asks {
		if asks[i].failed {
			return undecided(w, r, &asks[i])
		}
	}
	var wait time.Duration
	var worst *ask
	for i := range asks {
		a := &asks[i]
		if a.wait <= 0 {
			continue
		}
		violated = append(violated, a.zone.name)
		if d := a.retryAfter(); d > wait {
			wait, worst = d, a
		}
	}
	return reject.Refuse(w, r, &reject.Refusal{
		Room:       "rate_limit",
		Kind:       exchange.LimitRefused,
		Status:     http.StatusTooManyRequests,
		Code:       "quota-exceeded",
		Title:      "Too many requests",
		Hint:       "This caller's quota is used up. Try again after the time in Retry-After.",
		Type:       problemTypes + "quota-exceeded",
		RetryAfter: wait,
		Members:    map[string]any{"violated-policies": violated},
		Attrs: []slog.Attr{
			slog.String("zone", worst.zone.name),
			slog.Int64("limit", worst.rule.quota()),
			slog.Duration("retry_after", wait),
		},
	})
}

// undecided answers a request that nobody can decide about now. It is not the
// caller's fault, so it is not a 429.
func undecided(w http.ResponseWriter, r *http.Request, a *ask) error {
	return reject.Refuse(w, r, &reject.Refusal{
		Room:       "rate_limit",
		Kind:       exchange.LimitRefused,
		Status:     http.StatusServiceUnavailable,
		Code:       "temporary-reduced-capacity",
		Title:      "The quota cannot be checked now",
		Hint:       "This is no fault of the caller. Try again after the time in Retry-After.",
		Type:       problemTypes + "temporary-reduced-capacity",
		RetryAfter: time.Second,
		Members:    map[string]any{"violated-policies": []string{a.zone.name}},
		Attrs:      []slog.Attr{slog.String("zone", a.zone.name)},
	})
}
