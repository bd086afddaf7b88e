package ratelimit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/calendar"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// algorithms are the words for the kinds, in their order.
var algorithms = []string{"gcra", "sliding_log", "fixed_window", "concurrency"}

// largest is the largest limit: far above it a request's own time to come back
// would fall below the resolution of an instant.
const largest = 1_000_000_000

// longestLog is the largest limit of a sliding log, which remembers every request.
const longestLog = 10_000

const defaultLease = 60 * time.Second

// newRule reads one rate of the zone, such as 100/1m, 5000/day or 10.
func (z *Zone) newRule(tier, rate string) (*rule, error) {
	r := &rule{kind: max(kind(slices.Index(algorithms, z.Algorithm)), 0), tier: tier}
	if z.Algorithm == "" {
		r.kind = bucket
	}
	limit, per, err := parseRate(rate)
	if err != nil {
		return nil, err
	}
	r.limit, r.burst = float64(limit), float64(limit)
	unit := slices.Contains(calendar.Units, per)
	switch {
	case r.kind == concurrent && per != "":
		return nil, fmt.Errorf("rate '%s': of concurrency the rate is the number of requests alone, such as 10", rate)
	case r.kind != concurrent && per == "":
		return nil, fmt.Errorf("rate '%s': a rate is a whole number of at least 1, a slash and a duration, such as 100/1m", rate)
	case r.kind == fixedWindow && !unit:
		return nil, fmt.Errorf("rate '%s': of fixed_window the period is one of %s", rate, strings.Join(calendar.Units, ", "))
	case r.kind != fixedWindow && unit:
		return nil, fmt.Errorf("rate '%s': periods of the calendar need algorithm fixed_window; otherwise write a duration", rate)
	case r.kind == slidingLog && limit > longestLog:
		return nil, fmt.Errorf("rate '%s': sliding_log remembers every request, up to %d", rate, longestLog)
	}
	switch r.kind {
	case fixedWindow:
		r.unit, r.zone = calendar.Unit(per), time.UTC
		if r.zone, err = time.LoadLocation(z.TimeZone); err != nil {
			return nil, fmt.Errorf("timezone: %w", err)
		}
	case concurrent:
		r.lease = float64(z.lease().Microseconds())
	default:
		window, err := syntax.ParseDuration(per)
		if err != nil {
			return nil, fmt.Errorf("rate '%s': a rate is written as 100/1m or 5/10s, with a positive duration after the slash", rate)
		}
		r.window = float64(window) / float64(time.Microsecond)
		if z.Burst > 0 && r.kind == bucket {
			r.burst = float64(z.Burst)
		}
		r.gcra = gcra.Of(limit, window, int64(r.burst))
	}
	r.setPolicy(z.name)
	return r, nil
}

// parseRate splits 100/1m into the number and what stands behind the slash.
func parseRate(text string) (limit int64, per string, err error) {
	count, per, slash := strings.Cut(text, "/")
	limit, err = strconv.ParseInt(count, 10, 64)
	if err != nil || limit < 1 || limit > largest || slash && per == "" {
		return 0, "", fmt.Errorf("rate '%s': a rate is a whole number of at least 1, a slash and a duration, such as 100/1m", text)
	}
	return limit, per, nil
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
