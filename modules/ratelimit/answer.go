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
// (draft-ietf-httpapi-ratelimit-headers), one item for each zone that is not on
// trial. An upstream's own fields are added behind them.
func (h *Handler) setHeaders(header http.Header, asks []ask, now float64) {
	var room [128]byte
	limit := room[:0]
	var policies string
	var tightest *ask
	for i := range asks {
		a := &asks[i]
		if a.zone.DryRun {
			continue
		}
		if tightest == nil {
			policies = a.rule.policyItem(now)
			tightest = a
		} else {
			policies += "," + a.rule.policyItem(now)
			limit = append(limit, ',')
		}
		limit = a.appendItem(limit)
		if a.wait > tightest.wait || a.wait == tightest.wait && a.left < tightest.left {
			tightest = a
		}
	}
	if tightest == nil {
		return
	}
	fields := &[2]string{policies, string(limit)}
	header["Ratelimit-Policy"], header["Ratelimit"] = fields[0:1:1], fields[1:2:2]
	if h.LegacyHeaders {
		header.Set("X-RateLimit-Limit", strconv.FormatInt(tightest.rule.quota(), 10))
		header.Set("X-RateLimit-Remaining", strconv.FormatInt(tightest.left, 10))
		header.Set("X-RateLimit-Reset", strconv.FormatInt(tightest.seconds(), 10))
	}
}

// appendItem writes the credit left and t. While there is credit t is the time
// until the key is as good as new, so that r divided by t suggests no burst;
// without credit it is the time to wait.
func (a *ask) appendItem(b []byte) []byte {
	b = append(b, a.rule.item...)
	b = append(b, ";r="...)
	b = strconv.AppendInt(b, a.left, 10)
	if a.rule.kind == concurrent && a.wait <= 0 {
		return b // nobody knows when a place is freed
	}
	b = append(b, ";t="...)
	return strconv.AppendInt(b, a.seconds(), 10)
}

func (a *ask) seconds() int64 {
	if a.wait > 0 {
		return int64(math.Max(math.Ceil(a.wait/1e6), 1))
	}
	return int64(math.Ceil(a.full / 1e6))
}

// refuse answers a request that at least one zone does not let pass.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, asks []ask) error {
	no := new(refusal)
	names := no.zones[:0]
	var wait time.Duration
	var worst *ask
	for i := range asks {
		a := &asks[i]
		switch {
		case a.failed && !a.zone.DryRun:
			return undecided(w, r, a)
		case a.wait <= 0 || a.zone.DryRun:
			continue
		}
		names = append(names, a.zone.name)
		if d := a.retryAfter(); d > wait {
			wait, worst = d, a
		}
	}
	wait = h.jitter(wait)
	h.announce(r, worst, wait)
	setPushback(w.Header(), r, wait)
	no.members[0] = violated(names)
	no.attrs = [...]slog.Attr{
		slog.String("zone", worst.zone.name),
		slog.Int64("limit", worst.rule.quota()),
		slog.Duration("retry_after", wait),
	}
	no.Refusal = reject.Refusal{
		Room:       "rate_limit",
		Kind:       exchange.LimitRefused,
		Status:     http.StatusTooManyRequests,
		Code:       "quota-exceeded",
		Title:      "Too many requests",
		Hint:       "This caller's quota is used up. Try again after the time in Retry-After.",
		Type:       problemTypes + "quota-exceeded",
		RetryAfter: wait,
		Members:    no.members[:],
		Attrs:      no.attrs[:],
	}
	return reject.Refuse(w, r, &no.Refusal)
}

// refusal is a refusal with all that it points to: one allocation, for there
// may be a flood of them.
type refusal struct {
	reject.Refusal
	zones   [4]string
	members [1]reject.Member
	attrs   [3]slog.Attr
}

func violated(zones []string) reject.Member {
	return reject.Member{Name: "violated-policies", Value: zones}
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
		Members:    []reject.Member{violated([]string{a.zone.name})},
		Attrs:      []slog.Attr{slog.String("zone", a.zone.name)},
	})
}
