package jwtauth

import (
	"encoding/json"
	"strings"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

const userPrefix = "http.auth.user."

// caller answers for `{http.auth.user.*}` from the card, which holds the caller
// that was identified last. Values are data: they are never expanded again.
type caller struct{ *exchange.Exchange }

func (c caller) placeholder(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, userPrefix)
	if !ours {
		return nil, false
	}
	t, ok := c.Identity.Claims.(*token.Token)
	switch {
	case name == "id" && !ok:
		return c.Identity.Subject, true
	case name == "id":
		return t.SubjectValue(), true
	case !ok:
		return nil, false
	}
	p, err := token.ParsePath(name)
	if err != nil {
		return nil, false
	}
	v, ok := t.Lookup(p)
	if !ok {
		return nil, false
	}
	if text, ok := v.Text(); ok {
		return text, true
	}
	return native(v.Any()), true
}

// native turns JSON numbers into the numbers that expressions compare, where
// that loses nothing; others stay the text they are.
func native(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil && strings.ContainsAny(string(v), ".eE") {
			return f
		}
		return string(v)
	case []any:
		for n := range v {
			v[n] = native(v[n])
		}
	case map[string]any:
		for name := range v {
			v[name] = native(v[name])
		}
	}
	return v
}
