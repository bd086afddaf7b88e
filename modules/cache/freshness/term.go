package freshness

import (
	"net/http"
	"strings"
	"time"
)

// Answer is what the rules need to know of an upstream's answer.
type Answer struct {
	Status int
	Header http.Header
	// Requested and Received are when the request went out and when the
	// header of the answer came in.
	Requested, Received time.Time
}

// Rules is what the operator chose.
type Rules struct {
	// Targets are the targeted fields to obey before Cache-Control, in order
	// (RFC 9213 section 2.2).
	Targets []string
	// Heuristic is the share of the time since Last-Modified for which an
	// answer without a lifetime is fresh, up to HeuristicMost. Zero: never.
	Heuristic     float64
	HeuristicMost time.Duration
	// Negative is the lifetime of answers of the NegativeStatus that have none.
	Negative       time.Duration
	NegativeStatus []int
	// StaleWhileRevalidate and StaleIfError apply to answers that say nothing
	// of the kind.
	StaleWhileRevalidate, StaleIfError time.Duration
}

// Term is how long an answer may be used, and how.
type Term struct {
	// Lifetime is the freshness lifetime; Explicit says the origin named it.
	Lifetime time.Duration
	Explicit bool
	// Age is the corrected initial age, at Answer.Received.
	Age time.Duration
	// Validate wants every use validated first (`no-cache`).
	Validate bool
	// Strict forbids any use when stale (`must-revalidate` and its like).
	Strict bool
	// Shared allows use for others although the request was authenticated.
	Shared bool
	// StaleWhileRevalidate and StaleIfError run from the end of Lifetime.
	StaleWhileRevalidate, StaleIfError time.Duration
}

// Control returns the directives that govern a: those of the first targeted
// field that is there and well formed, else those of Cache-Control.
func (ru *Rules) Control(h http.Header) (d Directives, targeted bool) {
	for _, name := range ru.Targets {
		if lines := h[name]; len(lines) > 0 {
			if d, ok := ParseTargeted(lines); ok {
				return d, true
			}
		}
	}
	return Parse(h["Cache-Control"]), false
}

// Judge says how long a may be used.
func (ru *Rules) Judge(a Answer) Term {
	d, targeted := ru.Control(a.Header)
	t := Term{Age: InitialAge(a)}
	t.Lifetime, t.Explicit = lifetime(&d, targeted, a)
	if !t.Explicit && !d.Has(Malformed) {
		t.Lifetime = ru.implicit(a, &d)
	}
	t.Validate = d.Has(NoCache) || pragmaNoCache(&d, targeted, a.Header)
	// s-maxage implies proxy-revalidate for a shared cache (section 5.2.2.10).
	t.Strict = t.Validate || d.Has(MustRevalidate|ProxyRevalidate|HasSMaxAge)
	t.Shared = d.Has(Public | MustRevalidate | HasSMaxAge)
	t.StaleWhileRevalidate, t.StaleIfError = ru.windows(&d, t.Strict)
	return t
}

// windows says how long a stale answer may be used. What the origin says for
// this answer goes before its general must-revalidate: RFC 5861 sections 3 and 4
// let the two stand together. The operator's defaults never do.
func (ru *Rules) windows(d *Directives, strict bool) (whileRevalidate, ifError time.Duration) {
	if d.Has(NoCache | MustRevalidate | ProxyRevalidate) {
		return 0, 0
	}
	if !strict {
		whileRevalidate, ifError = ru.StaleWhileRevalidate, ru.StaleIfError
	}
	if d.Has(HasStaleWhileRevalidate) {
		whileRevalidate = d.StaleWhileRevalidate
	}
	if d.Has(HasStaleIfError) {
		ifError = d.StaleIfError
	}
	return whileRevalidate, ifError
}

// lifetime follows section 4.2.1.
func lifetime(d *Directives, targeted bool, a Answer) (time.Duration, bool) {
	switch {
	case d.Has(Malformed):
		return 0, true
	case d.Has(HasSMaxAge):
		return d.SMaxAge, true
	case d.Has(HasMaxAge):
		return d.MaxAge, true
	}
	expires := a.Header["Expires"]
	if targeted || len(expires) == 0 {
		return 0, false
	}
	at, ok := Date(expires[0])
	if !ok || len(expires) > 1 && !same(expires) {
		return 0, true // an invalid date, "0" above all, is in the past (section 5.3)
	}
	return max(0, at.Sub(date(a))), true
}

func same(values []string) bool {
	for _, v := range values[1:] {
		if v != values[0] {
			return false
		}
	}
	return true
}

// implicit is the lifetime of an answer whose origin named none (section 4.2.2).
func (ru *Rules) implicit(a Answer, d *Directives) time.Duration {
	for _, s := range ru.NegativeStatus {
		if s == a.Status {
			return ru.Negative
		}
	}
	if ru.Heuristic <= 0 || !(HeuristicStatus(a.Status) || d.Has(Public)) {
		return 0
	}
	modified, ok := Date(a.Header.Get("Last-Modified"))
	if !ok {
		return 0
	}
	since := date(a).Sub(modified)
	return min(max(0, time.Duration(float64(since)*ru.Heuristic)), ru.HeuristicMost)
}

// pragmaNoCache treats Pragma of an HTTP/1.0 origin as section 5.4 suggests.
func pragmaNoCache(d *Directives, targeted bool, h http.Header) bool {
	if targeted || d.Has(Any) {
		return false
	}
	for _, line := range h["Pragma"] {
		if strings.Contains(strings.ToLower(line), "no-cache") {
			return true
		}
	}
	return false
}

// InitialAge is the corrected_initial_age of section 4.2.3.
func InitialAge(a Answer) time.Duration {
	apparent := max(0, a.Received.Sub(date(a)))
	delay := max(0, a.Received.Sub(a.Requested))
	return max(apparent, ageValue(a.Header)+delay)
}

// ageValue takes the first Age field; what cannot be read is ignored (section 5.1).
func ageValue(h http.Header) time.Duration {
	lines := h["Age"]
	if len(lines) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(lines[0], ",")
	age, _ := DeltaSeconds(strings.TrimSpace(first))
	return age
}

// date is when the origin made the answer: its Date, or when it came in
// (RFC 9110 section 6.6.1).
func date(a Answer) time.Time {
	if t, ok := Date(a.Header.Get("Date")); ok {
		return t
	}
	return a.Received
}

// layouts are the three forms of an HTTP date.
var layouts = [...]string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC}

// Date reads an HTTP date in any of its three forms (RFC 9110 section 5.6.7).
// It is stricter than http.ParseTime: what only resembles a date may mean
// anything, and is to count as none.
func Date(s string) (time.Time, bool) {
	if len(s) < len(time.ANSIC) {
		return time.Time{}, false
	}
	if zone := len(s) - len("GMT"); s[zone:] != "GMT" && strings.EqualFold(s[zone:], "GMT") {
		s = s[:zone] + "GMT"
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil && strings.EqualFold(t.Format(layout), s) {
			return t, true
		}
	}
	return time.Time{}, false
}
