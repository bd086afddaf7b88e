package routeindex

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// provisioned returns a matcher of each form that Caddy has it in.
func provisioned(t testing.TB, path, host string) (path1, path2, host1, host2 any) {
	t.Helper()
	p, h := caddyhttp.MatchPath{path}, caddyhttp.MatchHost{host}
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Provision(caddy.Context{}); err != nil {
		t.Skip(err)
	}
	return &p, caddyhttp.MatchPath{path}, &h, caddyhttp.MatchHost{host}
}

// overlooked says which of the routes matches r without being proposed.
func overlooked(t testing.TB, x *index, routes []route, r *http.Request) {
	t.Helper()
	r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
	proposed := x.propose(nil, r, 0)
	var got []int
	for i := first(proposed); i >= 0; i = first(proposed) {
		got = append(got, i)
	}
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("%q %q: proposed %v", r.Host, r.URL.Path, got)
	}
	for i, rt := range routes {
		match, err := rt.sets.AnyMatchWithError(r)
		if err != nil {
			t.Fatal(err)
		}
		if match && !slices.Contains(got, i) {
			t.Errorf("%q %q %q: %q matches and is not proposed", r.Host, r.URL.Path, r.URL.RawPath, rt.sets)
		}
	}
}

func single(m any) route { return route{sets: caddyhttp.MatcherSets{{m}}} }

// Every path against every pattern, and every host against every name.
func TestNothingIsOverlooked(t *testing.T) {
	var byPath, byHost []route
	for _, p := range append(patterns, "/A*", "/a[b]/*", "/*/x", "//*", "/a//*", "/a/B//*") {
		p1, p2, _, _ := provisioned(t, p, "x")
		byPath = append(byPath, single(p1), single(p2))
	}
	for _, n := range append(names, "*.EXAMPLE.org", "é.example", "*.é.example", "K.Example", "ſ.example", "", "*.") {
		_, _, h1, h2 := provisioned(t, "/x", n)
		byHost = append(byHost, single(h1), single(h2))
	}
	paths, hosts := newIndex(byPath), newIndex(byHost)
	if paths == nil || hosts == nil || len(paths.always) > len(byPath)*2/3 || len(hosts.always) > len(byHost)*2/3 {
		t.Fatalf("of %d and %d routes, these are always proposed: %v, %v", len(byPath), len(byHost), paths, hosts)
	}
	for _, path := range append(asPath, "//", "///a//b//c", "/a//b/../c", "/A//B//", "/./a", "/a[b]/c", "//x", "/k") {
		for _, raw := range []string{"", "/%61/b", "/a%2Fb"} {
			overlooked(t, paths, byPath, &http.Request{URL: &url.URL{Path: path, RawPath: raw}})
		}
	}
	for _, name := range slices.Concat(asHost, rewritten, []string{"X.EXAMPLE.ORG", "é.example", "x.É.example", "É.EXAMPLE", "\u212a.example", "k.example", "s.example", "x.", ".", "[[x]]", "[x"}) {
		overlooked(t, hosts, byHost, &http.Request{Host: name, URL: &url.URL{Path: "/"}})
	}
}

func FuzzNothingIsOverlooked(f *testing.F) {
	for i, p := range patterns {
		f.Add(p, names[i%len(names)], asPath[i%len(asPath)], asHost[i%len(asHost)])
	}
	f.Fuzz(func(t *testing.T, pattern, name, path, host string) {
		p1, p2, h1, h2 := provisioned(t, pattern, name)
		routes := []route{single(p1), single(p2), single(h1), single(h2)}
		for _, other := range []string{"/1", "/2", "/3", "/4", "/5"} {
			routes = append(routes, single(caddyhttp.MatchPath{other}))
		}
		overlooked(t, newIndex(routes), routes, &http.Request{Host: host, URL: &url.URL{Path: path}})
	})
}

// A route by path and host is found by what fewer routes share.
func TestRoutesAreFoundByWhatTellsThemApart(t *testing.T) {
	var routes []route
	for _, site := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		routes = append(routes, route{sets: caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/api/*"}, &caddyhttp.MatchHost{site + ".test"}}}})
	}
	x := newIndex(routes)
	if len(x.by[host]) != 8 || len(x.by[prefix]) != 0 {
		t.Errorf("%d names and %d prefixes are known, want 8 and none", len(x.by[host]), len(x.by[prefix]))
	}
	if got := x.propose(nil, &http.Request{Host: "c.test", URL: &url.URL{Path: "/api/x"}}, 0); len(got) != 1 || !slices.Equal(got[0], []int32{2}) {
		t.Errorf("proposed %v, want the third alone", got)
	}
	if _, first := routes[0].sets[0][0].(*caddyhttp.MatchHost); !first {
		t.Error("the path is asked before the host that the route is found by")
	}
}

// What stands behind the path in a set may be anything; what any set of a
// route does not say cannot be looked up.
func TestWhatCanBeLookedUp(t *testing.T) {
	for _, c := range []struct {
		name string
		sets caddyhttp.MatcherSets
		want string
	}{
		{"no matcher", nil, ""},
		{"exact", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a"}}}, "/a"},
		{"prefix", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a/*", "/b*"}}}, "/a/ /b"},
		{"behind another", caddyhttp.MatcherSets{{new(asked), &caddyhttp.MatchPath{"/a"}}}, "/a"},
		{"two sets", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a"}}, {new(asked), &caddyhttp.MatchPath{"/b"}}}, "/a /b"},
		{"a set without", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a"}}, {new(asked)}}, ""},
		{"a path and a host", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a"}}, {&caddyhttp.MatchHost{"a.test"}}}, ""},
		{"hosts", caddyhttp.MatcherSets{{&caddyhttp.MatchHost{"A.test", "*.b.test"}}}, "a.test b.test"},
		{"a placeholder", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a", "/{http.vars.v}"}}}, ""},
		{"a suffix", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a", "*.php"}}}, ""},
		{"an escape", caddyhttp.MatcherSets{{&caddyhttp.MatchPath{"/a%2Fb"}}}, ""},
		{"one label", caddyhttp.MatcherSets{{&caddyhttp.MatchHost{"*"}}}, ""},
	} {
		var got []string
		for _, by := range readings(c.sets) {
			for _, k := range by.keys {
				got = append(got, k.text)
			}
			for i, set := range by.sets {
				if len(set) != len(c.sets[i]) {
					t.Errorf("%s: matchers are lost: %v", c.name, set)
				}
				if _, behind := set[0].(*asked); behind {
					t.Errorf("%s: another matcher is asked first", c.name)
				}
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
