package routeindex

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// byPath is one site of n handles, as the Caddyfile makes them; byHost are n
// sites with one each.
func byPath(n int) []object {
	var inner []object
	for i := range n {
		inner = append(inner, object{"group": "g", "match": []object{{"path": []string{fmt.Sprintf("/route-%d/*", i)}}}, "handle": []object{answering()}})
	}
	return []object{{"match": []object{{"host": []string{"site.test"}}}, "handle": []object{{"handler": "subroute", "routes": inner}}, "terminal": true}}
}

func byHost(n int) (sites []object) {
	for i := range n {
		sites = append(sites, object{"match": []object{{"host": []string{fmt.Sprintf("site-%d.test", i)}}}, "handle": []object{answering()}, "terminal": true})
	}
	return sites
}

func answering() object {
	return object{"handler": "subroute", "routes": []object{{"handle": []object{{"handler": "static_response", "body": "in"}}}}}
}

type layout struct {
	name   string
	routes func(n int) []object
	last   func(n int) *http.Request
}

var layouts = []layout{
	{"path", byPath, func(n int) *http.Request {
		return httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://site.test/route-%d/x", n-1), nil)
	}},
	{"host", byHost, func(n int) *http.Request {
		return httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://site-%d.test/x", n-1), nil)
	}},
}

// sink is a response writer that costs nothing and counts answers.
type sink struct {
	head http.Header
	n    int
}

func (s *sink) Header() http.Header         { return s.head }
func (s *sink) Write(p []byte) (int, error) { s.n++; return len(p), nil }
func (s *sink) WriteHeader(int)             {}

func (l layout) stand(t testing.TB, n int) (stock, indexed *caddyhttp.Server) {
	t.Helper()
	text, err := json.Marshal(l.routes(n))
	if err != nil {
		t.Fatal(err)
	}
	return servers(t, string(text), "[]")
}

// BenchmarkLast asks for the last of many routes, beside Caddy's own way.
func BenchmarkLast(b *testing.B) {
	for _, l := range layouts {
		for _, n := range []int{1, 10, 100, 1000, 10000} {
			stock, indexed := l.stand(b, n)
			for _, way := range []struct {
				name   string
				server *caddyhttp.Server
			}{{"stock", stock}, {"indexed", indexed}} {
				b.Run(fmt.Sprintf("%s/%d/%s", l.name, n, way.name), func(b *testing.B) {
					b.ReportAllocs()
					w, r := &sink{head: make(http.Header)}, l.last(n)
					way.server.ServeHTTP(w, r)
					before := w.n
					for b.Loop() {
						way.server.ServeHTTP(w, r)
					}
					if w.n != before+b.N {
						b.Errorf("%d of %d requests were answered", w.n-before, b.N)
					}
				})
			}
		}
	}
}

// BenchmarkCompile is what a load of the configuration costs more, and what the
// index keeps.
func BenchmarkCompile(b *testing.B) {
	for _, l := range layouts {
		_, server := l.stand(b, 10000)
		b.Run(l.name, func(b *testing.B) {
			b.ReportAllocs()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var kept []caddyhttp.Handler
			for b.Loop() {
				tree, err := (&compiler{}).server(server.Routes[1:])
				if err != nil {
					b.Fatal(err)
				}
				kept = append(kept, tree)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N)/10000, "B/route")
			runtime.KeepAlive(kept)
		})
	}
}

// A route more, or a subroute around it, allocates nothing more.
func TestRoutesAllocateNothing(t *testing.T) {
	for _, l := range layouts {
		allocs := func(n int) float64 {
			_, server := l.stand(t, n)
			w, r := &sink{head: make(http.Header)}, l.last(n)
			server.ServeHTTP(w, r)
			return testing.AllocsPerRun(200, func() { server.ServeHTTP(w, r) })
		}
		one, many := allocs(1), allocs(1000)
		if many > one {
			t.Errorf("by %s: %v allocations a request with one route, %v with a thousand", l.name, one, many)
		}
	}
}

// What stands between a server's routes and a handler at depth n allocates
// nothing, looked up or asked in turn, grouped or with error routes.
func TestSubroutesAllocateNothing(t *testing.T) {
	allocs := func(depth int) float64 {
		routes := []object{{"handle": []object{{"handler": "static_response", "body": "in"}}}}
		for i := range depth {
			rt := object{"group": fmt.Sprint("g", i), "match": []object{{"path": []string{"/a/*"}}}, "handle": []object{
				{"handler": "subroute", "routes": routes, "errors": object{"routes": []object{{"handle": []object{}}}}}}}
			routes = []object{rt}
			for j := range i % 2 * 10 {
				routes = append([]object{{"match": []object{{"path": []string{fmt.Sprintf("/%d/*", j)}}}, "handle": []object{}}}, routes...)
			}
		}
		text, err := json.Marshal(routes)
		if err != nil {
			t.Fatal(err)
		}
		_, server := servers(t, string(text), "[]")
		w, r := &sink{head: make(http.Header)}, httptest.NewRequest(http.MethodGet, "http://site.test/a/x", nil)
		server.ServeHTTP(w, r)
		return testing.AllocsPerRun(200, func() { server.ServeHTTP(w, r) })
	}
	// The request's map of groups grows by itself beyond eight.
	if flat, deep := allocs(1), allocs(8); deep > flat {
		t.Errorf("%v allocations a request at depth 1, %v at depth 8", flat, deep)
	}
}
