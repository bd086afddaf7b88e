package jwtauth

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// Requirement is what a route demands of a verified token. All requirements of
// a route must be met.
type Requirement struct {
	// Scopes, Roles or Claim: what is looked at; exactly one.
	Scopes []string `json:"scopes,omitempty"`
	Roles  []string `json:"roles,omitempty"`
	// Claim is a claim's name, or a JSON Pointer such as /realm_access/roles.
	Claim string `json:"claim,omitempty"`
	// Values are what the claim must hold: it is the value, or an array with
	// the value in it. None demands only that the claim is there.
	Values []string `json:"values,omitempty"`
	// Any is satisfied by one of the scopes, roles or values. Default: all.
	Any bool `json:"any,omitempty"`

	path token.Path
}

func (q *Requirement) check() (err error) {
	kinds := 0
	for _, given := range []bool{len(q.Scopes) > 0, len(q.Roles) > 0, q.Claim != ""} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return errors.New("a requirement names scopes, roles or a claim")
	}
	for _, s := range q.Scopes {
		if strings.ContainsAny(s, " \"\\") {
			return fmt.Errorf("scope '%s' holds a character that no scope has", s)
		}
	}
	if q.Claim != "" {
		q.path, err = token.ParsePath(q.Claim)
	}
	return err
}

// met says whether the token satisfies q.
func (q *Requirement) met(f *facts) bool {
	switch {
	case len(q.Scopes) > 0:
		return q.each(q.Scopes, func(s string) bool { return f.hasScope(s) })
	case len(q.Roles) > 0:
		return q.each(q.Roles, func(s string) bool { return f.hasRole(s) })
	}
	v, ok := f.token.Lookup(q.path)
	if !ok || v.Raw() == "null" {
		return false
	}
	return len(q.Values) == 0 || q.each(q.Values, v.Holds)
}

func (q *Requirement) each(wanted []string, has func(string) bool) bool {
	for _, w := range wanted {
		if has(w) == q.Any {
			return q.Any
		}
	}
	return !q.Any
}

// hasScope looks into the issuer's scope claims, each a list separated by
// spaces (RFC 8693) or an array.
func (f *facts) hasScope(want string) bool {
	for _, p := range f.issuer.scopes {
		v, ok := f.token.Lookup(p)
		if !ok {
			continue
		}
		if list, ok := v.Text(); ok {
			for s := range strings.SplitSeq(list, " ") {
				if s == want {
					return true
				}
			}
		} else if v.Holds(want) {
			return true
		}
	}
	return false
}

func (f *facts) hasRole(want string) bool {
	for _, p := range f.issuer.roles {
		if v, ok := f.token.Lookup(p); ok && v.Holds(want) {
			return true
		}
	}
	return false
}

// unmet returns the first requirement that f does not meet, or nil.
func (h *Handler) unmet(f *facts) *Requirement {
	for n := range h.Require {
		if q := &h.Require[n]; !q.met(f) {
			return q
		}
	}
	return nil
}
