package routeindex

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// key is a literal that a route can be found by.
type key struct {
	kind kind
	text string
}

type kind int

const (
	exact  kind = iota // the whole path
	prefix             // how the path begins
	host               // the whole name
	domain             // the name without its first label
	kinds
)

// reading is a way to find a route: it cannot match a request that none of the
// keys fits.
type reading struct {
	keys []key
	// sets are the route's own, the matcher that the keys stand for in front.
	// Caddy leaves the order within a set to chance, and asks no further once a
	// matcher says no: so whatever stands behind, a route that is not proposed
	// would have done nothing.
	sets caddyhttp.MatcherSets
}

// readings returns the ways to find a route with these matchers: by path, by
// host, by either or not at all.
func readings(sets caddyhttp.MatcherSets) (all []reading) {
	for _, read := range []func(any) ([]key, bool){pathKeys, hostKeys} {
		if by, ok := readingOf(sets, read); ok {
			all = append(all, by)
		}
	}
	return all
}

// readingOf fails unless each of the sets, any of which may match, has a matcher
// that can be read.
func readingOf(sets caddyhttp.MatcherSets, read func(any) ([]key, bool)) (by reading, ok bool) {
	for _, set := range sets {
		at := -1
		for i, m := range set {
			if own, ok := read(m); ok {
				by.keys = append(by.keys, own...)
				at = i
				break
			}
		}
		if at < 0 {
			return reading{}, false
		}
		if at > 0 {
			m := set[at]
			set = slices.Insert(slices.Delete(slices.Clone(set), at, at+1), 0, m)
		}
		by.sets = append(by.sets, set)
	}
	return by, len(sets) > 0
}

func pathKeys(m any) (all []key, ok bool) {
	var patterns caddyhttp.MatchPath
	switch m := m.(type) {
	case *caddyhttp.MatchPath:
		patterns = *m
	case caddyhttp.MatchPath:
		patterns = m
	default:
		return nil, false
	}
	for _, p := range patterns {
		k := key{exact, p}
		if text, cut := strings.CutSuffix(p, "*"); cut {
			k = key{prefix, text}
			// With no star before it, the rest is compared as it stands.
			if text == "" || strings.ContainsAny(text, "*{%") {
				return nil, false
			}
		} else if strings.ContainsAny(p, `*?[\{%`) {
			return nil, false
		}
		all = append(all, k)
	}
	return all, true
}

func hostKeys(m any) (all []key, ok bool) {
	var names caddyhttp.MatchHost
	switch m := m.(type) {
	case *caddyhttp.MatchHost:
		names = *m
	case caddyhttp.MatchHost:
		names = m
	default:
		return nil, false
	}
	for _, name := range names {
		k := key{host, strings.ToLower(name)}
		if above, cut := strings.CutPrefix(k.text, "*."); cut {
			k = key{domain, above}
		}
		if strings.Contains(k.text, "*") || strings.Contains(k.text, "{") || !ascii(k.text) {
			return nil, false
		}
		all = append(all, k)
	}
	return all, true
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// best is the reading whose most common key the fewest routes share. Routes of
// one site differ in their paths, sites in their names.
func best(of []reading, shared map[key]int) (by reading, ok bool) {
	least := 0
	for _, each := range of {
		most := 0
		for _, k := range each.keys {
			most = max(most, shared[k])
		}
		if !ok || most < least {
			by, least, ok = each, most, true
		}
	}
	return by, ok
}
