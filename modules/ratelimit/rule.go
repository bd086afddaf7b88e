package ratelimit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// rule is one limit in the terms of its algorithm.
type rule struct {
	limit  int64
	burst  int64
	window time.Duration
	gcra   gcra.Limit
	// item is the zone name as both fields write it; policy the whole item of
	// RateLimit-Policy.
	item, policy string
}

// quota is how much one key may use at once: the q of RateLimit-Policy.
func (r *rule) quota() int64 { return r.burst }

// wait returns how many microseconds a request must wait; it is admissible
// where that is not above zero.
func (r *rule) wait(e *entry, now, cost float64) float64 {
	return r.gcra.Wait(e.tat, now, cost)
}

// spend charges an admitted request.
func (r *rule) spend(e *entry, now, cost float64) {
	e.tat = r.gcra.Spend(e.tat, now, cost)
	e.expires = e.tat
}

// refund takes a charge back.
func (r *rule) refund(e *entry, cost float64) {
	e.tat = r.gcra.Refund(e.tat, cost)
	e.expires = e.tat
}

// credit returns the whole requests left and the microseconds until the key is
// as good as new.
func (r *rule) credit(e *entry, now float64) (left int64, full float64) {
	left = max(int64(math.Floor(r.gcra.Left(e.tat, now))), 0)
	return left, gcra.Full(e.tat, now)
}

// newRule reads a rate such as 100/1m for the zone of this name.
func newRule(zone, rate string, burst int64) (*rule, error) {
	limit, window, err := parseRate(rate)
	if err != nil {
		return nil, err
	}
	if burst == 0 {
		burst = limit
	}
	r := &rule{limit: limit, burst: burst, window: window, gcra: gcra.Of(limit, window, burst)}
	r.item = sfString(zone)
	r.policy = r.item + r.policyParams()
	return r, nil
}

// policyParams writes quota and window so that q per w is the sustained rate:
// the window stated is the time in which the burst comes back.
func (r *rule) policyParams() string {
	refill := time.Duration(float64(r.window) * float64(r.burst) / float64(r.limit))
	seconds := max(int64((refill+time.Second-1)/time.Second), 1)
	return ";q=" + strconv.FormatInt(r.quota(), 10) + ";w=" + strconv.FormatInt(seconds, 10)
}

// most is the largest limit: far above it a request's own time to come back
// would fall below the resolution of an instant.
const most = 1_000_000_000

func parseRate(text string) (limit int64, window time.Duration, err error) {
	count, per, found := strings.Cut(text, "/")
	if found {
		limit, err = strconv.ParseInt(count, 10, 64)
	}
	if !found || err != nil || limit < 1 || limit > most {
		return 0, 0, fmt.Errorf("a rate is a whole number of at least 1, a slash and a duration, such as 100/1m; got '%s'", text)
	}
	if window, err = syntax.ParseDuration(per); err != nil {
		return 0, 0, fmt.Errorf("a rate is written as 100/1m or 5/10s, with a positive duration after the slash; got '%s'", text)
	}
	return limit, window, nil
}

// sfString writes s as a String of RFC 9651. What it cannot hold is percent-encoded.
func sfString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "%%%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
