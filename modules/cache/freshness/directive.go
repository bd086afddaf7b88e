// Package freshness is the arithmetic of RFC 9111: what Cache-Control says,
// how old an answer is, how long it may be reused, and what may be kept at
// all. It does no I/O and asks no clock; instants come in as arguments.
package freshness

import (
	"strings"
	"time"
)

// Flag is a directive without an argument, or the fact that one was given.
type Flag uint32

// The directives of RFC 9111 section 5.2, RFC 5861 and RFC 8246.
const (
	NoStore Flag = 1 << iota
	NoCache
	Private
	Public
	MustRevalidate
	ProxyRevalidate
	MustUnderstand
	NoTransform
	OnlyIfCached
	Immutable
	// HasMaxAge and its like say that the directive was there with a value
	// that can be used.
	HasMaxAge
	HasSMaxAge
	HasMinFresh
	HasMaxStale
	HasStaleWhileRevalidate
	HasStaleIfError
	// Malformed says that a lifetime was given that is no number. RFC 9111
	// section 4.2.1 wants such an answer taken for stale.
	Malformed
	// Any says that there was at least one directive.
	Any
)

// Directives is what a Cache-Control field says.
type Directives struct {
	Flags                               Flag
	MaxAge, SMaxAge, MinFresh, MaxStale time.Duration
	StaleWhileRevalidate, StaleIfError  time.Duration
}

// Has says whether one of the flags is set.
func (d *Directives) Has(f Flag) bool { return d.Flags&f != 0 }

// Forever stands for delta-seconds too large to count (RFC 9111 section 1.2.2).
const Forever = (1 << 31) * time.Second

// Parse reads the field lines of Cache-Control. Unknown directives are
// ignored (section 5.2.3). Of a lifetime that is given twice the shorter
// counts (section 4.2.1 lets the recipient choose; this one is safe).
func Parse(lines []string) (d Directives) {
	for _, line := range lines {
		for line != "" {
			var name, value string
			var valued bool
			name, value, valued, line = next(line)
			if name != "" {
				d.add(name, value, valued)
			}
		}
	}
	return d
}

// next cuts the first directive off s. Commas inside quoted strings part nothing.
func next(s string) (name, value string, valued bool, rest string) {
	s = strings.TrimLeft(s, " \t,")
	i := strings.IndexAny(s, "=,")
	switch {
	case i < 0:
		return strings.TrimRight(s, " \t"), "", false, ""
	case s[i] == ',':
		return strings.TrimRight(s[:i], " \t"), "", false, s[i+1:]
	}
	name, s = s[:i], s[i+1:]
	var closed bool
	if strings.HasPrefix(s, `"`) {
		value, rest, closed = quoted(s[1:])
	}
	if !closed {
		// A quote that never closes must not swallow a no-store behind it.
		value, rest, _ = strings.Cut(s, ",")
		return name, strings.TrimRight(value, " \t"), true, rest
	}
	// What follows the closing quote up to the comma makes the value no value.
	tail, rest, _ := strings.Cut(rest, ",")
	if strings.TrimRight(tail, " \t") != "" {
		value = "\x00"
	}
	return name, value, true, rest
}

// quoted reads a quoted string whose opening quote is behind us.
func quoted(s string) (value, rest string, closed bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

var words = map[string]Flag{
	"no-store": NoStore, "no-cache": NoCache, "private": Private, "public": Public,
	"must-revalidate": MustRevalidate, "proxy-revalidate": ProxyRevalidate,
	"must-understand": MustUnderstand, "no-transform": NoTransform,
	"only-if-cached": OnlyIfCached, "immutable": Immutable,
}

func (d *Directives) add(name, value string, valued bool) {
	d.Flags |= Any
	name = strings.ToLower(name)
	if f, ok := words[name]; ok {
		// The forms with field names, no-cache="x" and private="x", are taken
		// for the bare ones, which forbid more (sections 5.2.2.4 and 5.2.2.7).
		d.Flags |= f
		return
	}
	switch name {
	case "max-age":
		d.seconds(&d.MaxAge, HasMaxAge, value)
	case "s-maxage":
		d.seconds(&d.SMaxAge, HasSMaxAge, value)
	case "min-fresh":
		d.seconds(&d.MinFresh, HasMinFresh, value)
	case "max-stale":
		if !valued { // any age will do (section 5.2.1.2)
			value = "2147483648"
		}
		d.seconds(&d.MaxStale, HasMaxStale, value)
	case "stale-while-revalidate":
		d.window(&d.StaleWhileRevalidate, HasStaleWhileRevalidate, value)
	case "stale-if-error":
		d.window(&d.StaleIfError, HasStaleIfError, value)
	}
}

func (d *Directives) seconds(target *time.Duration, has Flag, value string) {
	v, ok := DeltaSeconds(value)
	if !ok {
		d.Flags |= Malformed
		return
	}
	if !d.Has(has) || v < *target {
		*target = v
	}
	d.Flags |= has
}

// window reads how long after its lifetime an answer may be used. A window
// that cannot be read is none, and makes nothing stale that is not.
func (d *Directives) window(target *time.Duration, has Flag, value string) {
	if v, ok := DeltaSeconds(value); ok && (!d.Has(has) || v < *target) {
		*target = v
		d.Flags |= has
	}
}

// DeltaSeconds reads a whole number of seconds without a sign; too large ones
// count as Forever (RFC 9111 section 1.2.2).
func DeltaSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n < 1<<31 {
			n = n*10 + int64(c-'0')
		}
	}
	return time.Duration(min(n, 1<<31)) * time.Second, true
}
