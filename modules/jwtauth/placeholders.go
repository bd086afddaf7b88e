package jwtauth

import (
	"encoding/json"
	"strings"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

const userPrefix = "http.auth.user."

// placeholder answers for `{http.auth.user.*}`. Values are data: they are
// never expanded again.
func (f *facts) placeholder(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, userPrefix)
	if !ours {
		return nil, false
	}
	if name == "id" {
		return f.token.Subject, true
	}
	p, err := token.ParsePath(name)
	if err != nil {
		return nil, false
	}
	v, ok := f.token.Lookup(p)
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
