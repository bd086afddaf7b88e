package token

import (
	"fmt"
	"strconv"
	"strings"
)

// Path addresses a claim. A plain name is the name of a claim, dots and all:
// namespaced claims such as `https://example.com/roles` and `com.example.role`
// need no quoting. A path that begins with a slash is a JSON Pointer
// (RFC 6901) and descends, as in `/realm_access/roles`.
type Path []string

// ParsePath reads the written form of a path.
func ParsePath(text string) (Path, error) {
	if text == "" {
		return nil, fmt.Errorf("claim path is empty")
	}
	if text[0] != '/' {
		return Path{text}, nil
	}
	parts := strings.Split(text[1:], "/")
	for i, p := range parts {
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(p), "~") {
			return nil, fmt.Errorf("claim path '%s': a '~' is written '~0', and '/' within a name '~1'", text)
		}
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts, nil
}

// Lookup returns the claim at p.
func (t *Token) Lookup(p Path) (Value, bool) {
	if len(p) == 0 {
		return Value{}, false
	}
	v, ok := t.top(p[0])
	for _, step := range p[1:] {
		if !ok {
			break
		}
		if index, err := strconv.Atoi(step); err == nil && v.raw[0] == '[' {
			v, ok = v.element(index)
		} else {
			v, ok = v.member(step)
		}
	}
	return v, ok
}

func (v Value) element(index int) (found Value, ok bool) {
	v.Each(func(e Value) bool {
		if index == 0 {
			found, ok = e, true
		}
		index--
		return !ok
	})
	return found, ok
}

// Claim returns the claim at the written path as Go knows it.
func (t *Token) Claim(path string) (any, bool) {
	p, err := ParsePath(path)
	if err != nil {
		return nil, false
	}
	v, ok := t.Lookup(p)
	if !ok {
		return nil, false
	}
	return v.Any(), true
}

func (t *Token) top(name string) (Value, bool) {
	for i := range t.members {
		m := &t.members[i]
		if sameName(m.name.of(t.claims), m.escaped, name) {
			return Value{m.value.of(t.claims)}, true
		}
	}
	return Value{}, false
}
