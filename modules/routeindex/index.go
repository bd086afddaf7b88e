package routeindex

import (
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// short is the length up to which a list is asked from its beginning: looking
// up costs as much as asking about so many.
const short = 4

// index proposes those routes of a list that can match a request: positions,
// in ascending order.
//
//	          path /orders/7, host api.example.com
//	always    0        9            matchers that cannot be looked up
//	prefix    /orders/ → 3 7
//	exact     /orders/7 → 5
//	host      api.example.com → 2
//	domain    example.com → 8       of *.example.com
//	proposed  0 2 3 5 7 8 9
//
// The routes' own matchers decide; the index may propose too many, never too few.
type index struct {
	always  []int32
	by      [kinds]map[string][]int32
	lengths []int // of the prefixes
}

// newIndex returns nil where routes are better asked in turn. In the routes
// that it knows, the matcher that it goes by comes to stand first in its set.
func newIndex(routes []route) *index {
	if len(routes) <= short {
		return nil
	}
	ways := make([][]reading, len(routes))
	shared := make(map[key]int)
	for i, rt := range routes {
		ways[i] = readings(rt.sets)
		for _, by := range ways[i] {
			for _, k := range by.keys {
				shared[k]++
			}
		}
	}
	x := new(index)
	sets := make([]caddyhttp.MatcherSets, len(routes))
	for i, rt := range routes {
		by, ok := best(ways[i], shared)
		if !ok {
			x.always = append(x.always, int32(i))
			sets[i] = rt.sets
			continue
		}
		for _, k := range by.keys {
			x.add(k, int32(i))
		}
		sets[i] = by.sets
	}
	if len(routes)-len(x.always) <= short {
		return nil
	}
	for i := range routes {
		routes[i].sets = sets[i]
	}
	for p := range x.by[prefix] {
		x.lengths = append(x.lengths, len(p))
	}
	slices.Sort(x.lengths)
	x.lengths = slices.Clip(slices.Compact(x.lengths))
	return x
}

func (x *index) add(k key, i int32) {
	if x.by[k.kind] == nil {
		x.by[k.kind] = make(map[string][]int32)
	}
	if at := x.by[k.kind][k.text]; len(at) == 0 || at[len(at)-1] != i {
		x.by[k.kind][k.text] = append(at, i)
	}
}

// propose appends to lists those that hold the routes from i on that r may match.
func (x *index) propose(lists [][]int32, r *http.Request, i int) [][]int32 {
	lists = add(lists, x.always, i)
	if len(x.by[exact])+len(x.by[prefix]) > 0 {
		asked, other := paths(r.URL.Path)
		lists = x.proposePath(lists, asked, i)
		if other != asked {
			lists = x.proposePath(lists, other, i)
		}
	}
	if len(x.by[host])+len(x.by[domain]) > 0 {
		name := hostname(r.Host)
		lists = add(lists, x.by[host][name], i)
		if _, above, ok := strings.Cut(name, "."); ok {
			lists = add(lists, x.by[domain][above], i)
		}
	}
	return lists
}

func (x *index) proposePath(lists [][]int32, path string, i int) [][]int32 {
	lists = add(lists, x.by[exact][path], i)
	for _, n := range x.lengths {
		if n > len(path) {
			break
		}
		lists = add(lists, x.by[prefix][path[:n]], i)
	}
	return lists
}

// add appends what list holds from i on.
func add(lists [][]int32, list []int32, i int) [][]int32 {
	if i > 0 {
		at, _ := slices.BinarySearch(list, int32(i))
		list = list[at:]
	}
	if len(list) == 0 {
		return lists
	}
	return append(lists, list)
}

// first takes the lowest position out of lists, or is -1.
func first(lists [][]int32) int {
	lowest := int32(-1)
	for _, list := range lists {
		if len(list) > 0 && (lowest < 0 || list[0] < lowest) {
			lowest = list[0]
		}
	}
	if lowest >= 0 {
		for k, list := range lists {
			if len(list) > 0 && list[0] == lowest {
				lists[k] = list[1:]
			}
		}
	}
	return int(lowest)
}

// paths returns the forms of a path that Caddy compares patterns with: those
// without and those with two slashes in a row.
func paths(path string) (merged, kept string) {
	path = strings.ToLower(path)
	switch {
	case plain(path):
		return path, path
	case path == "":
		merged = caddyhttp.CleanPath(path, true)
	default:
		merged = caddyhttp.NormalizedPath(path, true)
	}
	kept = merged
	if strings.Contains(path, "//") {
		kept = caddyhttp.NormalizedPath(path, false)
	}
	return merged, kept
}

// plain says that cleaning path would change nothing.
func plain(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.Contains(path, "//") && !strings.Contains(path, "/.") && runtime.GOOS != "windows"
}

// hostname returns what Caddy compares host names with, folded to lower case.
func hostname(host string) string {
	if colon := strings.IndexByte(host, ':'); strings.ContainsAny(host, "[]") || colon != strings.LastIndexByte(host, ':') {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		} else {
			host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		}
	} else if colon >= 0 {
		host = host[:colon]
	}
	// With its Kelvin sign, which ToLower knows, it is all that folds into ASCII.
	return strings.ToLower(strings.ReplaceAll(host, "ſ", "s"))
}
