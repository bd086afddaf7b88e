package telemetry

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A long table finds what it finds when all entries are compared in turn.
func TestLongTableFindsTheFirst(t *testing.T) {
	patterns := []string{"/a", "/a/*", "/a*", "/A/b", "/a/b/*", "/b", "/b/*", "/", "*.php", "*/b/*", "/a/*/c", "/a%2Fb", "/a//b/*", "/é/*", "/é", "/ſ*", "/s", "/*", "*"}
	paths := []string{"/a", "/a/", "/A/B", "/a/b/c", "/a//b", "/a/./b", "/b", "/b/x.php", "/c", "/", "", "/é/x", "/É/x", "/ſ", "/S", "/K", "a/b", "*", "/a/x/c"}
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 500 {
		long := &table{rest: unmatched}
		for i := range few + 1 + rnd.IntN(12) {
			e := entry{match: newPattern(patterns[rnd.IntN(len(patterns)-rnd.IntN(2)*2)]), route: &route{label: fmt.Sprint(i)}}
			if rnd.IntN(3) == 0 {
				e.methods = []string{http.MethodPost}
			}
			long.entries = append(long.entries, e)
		}
		inTurn := *long
		long.finder = newFinder(long.entries)
		for _, path := range paths {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				r := httptest.NewRequest(method, "/", nil)
				r.URL.Path = path
				r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
				got, want := long.find(r), inTurn.find(r)
				if got != want {
					t.Errorf("%s %q: entry %s, want %s", method, path, got.label, want.label)
				}
				if got != unmatched {
					found++
				}
			}
		}
	}
	if found < 1000 {
		t.Errorf("%d requests had a route", found)
	}
}

// BenchmarkFind finds the last of many routes.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := &table{rest: unmatched}
			for i := range n {
				t.entries = append(t.entries, entry{match: newPattern(fmt.Sprintf("/route-%d/*", i)), route: &route{}})
			}
			t.finder = newFinder(t.entries)
			r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/route-%d/x", n-1), nil)
			b.ReportAllocs()
			for b.Loop() {
				if t.find(r) == unmatched {
					b.Fatal("not found")
				}
			}
		})
	}
}
