// Package rules is the evaluator of our own flags: which variant a caller gets.
// It knows neither a server nor a network, only a document of rules and a
// caller.
package rules

import (
	"net/netip"
	"slices"
	"strings"
)

// Set is a document of flags that has been read and checked.
type Set struct {
	Flags map[string]*Flag
}

// Flag gives each caller one of its variants.
type Flag struct {
	Name     string
	Variants []string
	// Enabled is false for a flag that gives everybody Off.
	Enabled bool
	Off     string
	// Rules are asked in order; the first whose conditions all hold decides.
	Rules []Rule
	// Serve decides where no rule does.
	Serve Serving
	// Salt is what the caller's key is hashed with. Two flags of one salt deal
	// the same callers alike.
	Salt string
	// Text is the definition in canonical JSON: two that are equal mean the same.
	Text string
}

// Rule is for callers of whom all conditions hold.
type Rule struct {
	Name string
	When []Condition
	Serving
}

// Serving is one variant for all, or a split.
type Serving struct {
	Variant string
	Split   []Share
}

// Share is the part of the callers that get one variant, out of Whole.
type Share struct {
	Variant string `json:"variant"`
	Weight  int    `json:"weight"`
}

// Operators of a Condition.
const (
	in = iota
	notIn
	prefix
	suffix
	cidr
	present
)

// Condition compares one attribute of the caller.
type Condition struct {
	Attribute string
	op        int
	values    []string
	nets      []netip.Prefix
	want      bool // of present
}

// Caller is who is asked about.
type Caller interface {
	// Key is what the split goes by: the same for one caller on every node. It
	// is empty for a caller that cannot be told from others.
	Key() string
	// Attribute is empty for one that the caller does not have.
	Attribute(name string) string
}

// Reason says what decided.
type Reason uint8

// The reasons, as OpenFeature names them in telemetry.
const (
	Static Reason = iota // the flag gives everybody one variant
	Targeting
	Dealt // by the split
	Disabled
)

func (r Reason) String() string {
	return [...]string{"static", "targeting_match", "split", "disabled"}[r]
}

// Evaluate says which variant c gets. A steered split stands in the place of
// the flag's own serving where no rule decides.
func (f *Flag) Evaluate(c Caller, steered []Share) (variant string, why Reason) {
	if !f.Enabled {
		return f.Off, Disabled
	}
	for i := range f.Rules {
		if r := &f.Rules[i]; r.holds(c) {
			if r.Split == nil {
				return r.Variant, Targeting
			}
			return Deal(f.Salt, c.Key(), r.Split), Targeting
		}
	}
	switch {
	case steered != nil:
		return Deal(f.Salt, c.Key(), steered), Dealt
	case f.Serve.Split != nil:
		return Deal(f.Salt, c.Key(), f.Serve.Split), Dealt
	}
	return f.Serve.Variant, Static
}

func (r *Rule) holds(c Caller) bool {
	for i := range r.When {
		if !r.When[i].holds(c.Attribute(r.When[i].Attribute)) {
			return false
		}
	}
	return true
}

func (c *Condition) holds(value string) bool {
	switch c.op {
	case present:
		return (value != "") == c.want
	case notIn:
		return !slices.Contains(c.values, value)
	case cidr:
		addr, err := netip.ParseAddr(value)
		return err == nil && slices.ContainsFunc(c.nets, func(n netip.Prefix) bool { return n.Contains(addr.Unmap()) })
	case prefix:
		return value != "" && slices.ContainsFunc(c.values, func(v string) bool { return strings.HasPrefix(value, v) })
	case suffix:
		return value != "" && slices.ContainsFunc(c.values, func(v string) bool { return strings.HasSuffix(value, v) })
	}
	return value != "" && slices.Contains(c.values, value)
}
