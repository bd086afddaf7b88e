package routeindex

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	patterns = []string{
		"/a", "/a/", "/a/*", "/a*", "/a/b", "/a/b/*", "/a/b/c", "/b", "/b/*", "/c/*", "/", "/*", "*", "/A/B", "/.a/*", "/é/*",
		"*.php", "*/b/*", "/a/*/c", "/%61/*", "/a%2Fb", "/a//b/*", "/a//b", "/a[b]", "/a?b", `/a\b`, "/{http.vars.v}/*", "/{http.request.method}", "",
	}
	names = []string{
		"example.com", "EXAMPLE.net", "*.example.com", "a.example.com", "*", "*.com", "*.*.com", "a.*.com", "localhost", "127.0.0.1", "::1",
		"sks.example", "bücher.example", "{http.vars.v}", "*.{http.vars.v}", "example.com.", "é*.example", "foo*.example.com", "*.EXAMPLE.org",
	}
	asPath = []string{
		"/a", "/a/", "/a/b", "/a/b/c", "/a/b/", "/A/B", "/a//b", "//a/b", "/a//b/c", "/a/./b", "/a/../a/b", "/..", "/a/..", "/.a/b", "/a/.", "/é/x", "/É/X",
		"/x.php", "/b", "/b/b", "/c/x/y", "/", "", "*", "a/b", "/ab", "/axb", `/a\b`, "/a%2Fb", "/v/x", "/GET", "/a\x00b", "/a/\xff", "/a.", "/a /b", "/zz/zz/zz",
	}
	asHost = []string{
		"example.com", "example.com:8080", "EXAMPLE.COM", "Example.Net:80", "a.example.com", "b.example.com:1", "foo*.example.com", "[::1]:80", "[::1]", "::1",
		"localhost", "localhost:", "127.0.0.1:80", "a.b.com", "com", "example.com.", "xn--bcher-kva.example", "v", "x.v", ".example.com", "sks.example", "x.example.ORG", "other.test",
	}
	// rewritten are hosts that a handler may set, while a client may not.
	rewritten = []string{"ſks.example", "sKs.example", "\xff.example.com", "[a.example.com", "a]:1", "", "EXAMPLE.com:80:80", "b.example.com"}
)

// grower makes up a tree of routes.
type grower struct {
	*rand.Rand
	n    int // for names of handlers and matchers
	left int // so many routes are left
}

func pick[T any](g *grower, from ...T) T { return from[g.IntN(len(from))] }

func some[T any](g *grower, from []T) (few []T) {
	seen := make(map[int]bool)
	for range 1 + g.IntN(3) {
		if i := g.IntN(len(from)); !seen[i] {
			seen[i], few = true, append(few, from[i])
		}
	}
	return few
}

func (g *grower) name(kind string) string {
	g.n++
	return fmt.Sprint(kind, g.n)
}

type object map[string]any

// matchers makes a set as lists by path (0), by host (1) and by both (2) have.
func (g *grower) matchers(by int) object {
	set := make(object)
	if by != 1 && g.IntN(8) > 0 {
		set["path"] = some(g, patterns)
	}
	if by != 0 && g.IntN(8) > 0 {
		set["host"] = some(g, names)
	}
	switch g.IntN(36) {
	case 0:
		set["method"] = some(g, []string{"GET", "POST", "OPTIONS"})
	case 1:
		set["header"] = object{"X-Field": []string{pick(g, "x", "y", "*")}}
	case 2:
		set["query"] = object{"q": []string{pick(g, "1", "{http.vars.v}")}}
	case 3:
		set["path_regexp"] = object{"name": "p", "pattern": pick(g, "^/a/(.*)$", "/(b)", "(?i)/A")}
	case 4:
		set["header_regexp"] = object{"X-Field": object{"name": "h", "pattern": "^(.)"}}
	case 5:
		set["expression"] = pick(g, `path('/a/*')`, `true`, `{http.request.uri.query.q} == "1"`, `{http.request.host}.size() > 11`, `int({http.vars.v}) > 1`)
	case 6:
		set["not"] = []object{{"path": some(g, patterns)}, {"host": some(g, names)}}
	case 7:
		set["vars"] = object{"{http.vars.v}": []string{"v", "x"}}
	case 8, 9, 10:
		set["asked"] = object{"name": g.name("m"), "says": pick(g, "yes", "yes", "no", "no", "error", "elsewhere", "elsewhere")}
	case 11:
		set["protocol"] = pick(g, "http", "https", "http/1.1")
	}
	return set
}

func (g *grower) handler(depth int) object {
	if depth > 0 && g.IntN(3) == 0 {
		sub := object{"handler": "subroute", "routes": g.routes(depth - 1)}
		if g.IntN(2) == 0 {
			sub["errors"] = object{"routes": g.routes(depth - 1)}
		}
		return sub
	}
	h := object{"handler": "probe", "name": g.name("h"), "does": "next"}
	if g.IntN(3) == 0 {
		h["does"] = pick(g, "stop", "fail", "refuse", "twice", "path", "path", "host", "host", "swallow", "mark", "mark", "set")
	}
	switch h["does"] {
	case "path":
		h["to"] = pick(g, asPath...)
	case "host":
		h["to"] = pick(g, append(rewritten, asHost...)...)
	case "set":
		h["to"] = pick(g, "v", "x", "a")
	}
	return h
}

func (g *grower) routes(depth int) []object {
	list := []object{}
	by := g.IntN(3)
	for n := pick(g, 0, 1, 2, 6, 12, 24, 24); n > 0 && g.left > 0; n-- {
		g.left--
		rt := make(object)
		if g.IntN(10) > 0 {
			sets := []object{g.matchers(by)}
			for g.IntN(4) == 0 {
				sets = append(sets, g.matchers(by))
			}
			rt["match"] = sets
		}
		if g.IntN(4) == 0 {
			rt["group"] = fmt.Sprint("g", g.IntN(4))
		}
		rt["terminal"] = g.IntN(8) == 0
		handlers := []object{}
		for range pick(g, 0, 1, 1, 1, 2) {
			handlers = append(handlers, g.handler(depth))
		}
		rt["handle"] = handlers
		list = append(list, rt)
	}
	return list
}

func (g *grower) request() request {
	q := request{method: pick(g, "GET", "GET", "POST", "OPTIONS"), host: pick(g, asHost...), path: pick(g, asPath...), field: pick(g, "", "x", "zy"), query: pick(g, "", "q=1", "q=v", "q=%zz")}
	if g.IntN(4) == 0 {
		q.path, q.raw = pick(g, "/a/b", "/a/b/c"), pick(g, "/%61/b", "/a%2Fb", "/a%2fb/c", "/a/b%2Fc")
	}
	return q
}

// same grows a tree from seed and asks both servers the same, with each request
// twice: the first compiles.
func same(t testing.TB, seed uint64, times int, more ...request) {
	g := &grower{Rand: rand.New(rand.NewPCG(seed, 1)), left: 80}
	entry := object{"handle": []object{{"handler": "probe", "name": "entry", "does": pick(g, "next", "next", "set"), "to": "v"}}}
	routes, err := json.Marshal(append([]object{entry}, g.routes(3)...))
	if err != nil {
		t.Fatal(err)
	}
	failures, err := json.Marshal(g.routes(1))
	if err != nil {
		t.Fatal(err)
	}
	stock, indexed := servers(t, string(routes), string(failures))
	for range times {
		more = append(more, g.request())
	}
	for _, q := range more {
		if diff := cmp.Diff(ask(stock, q), ask(indexed, q)); diff != "" {
			t.Fatalf("seed %d, %q (-stock +indexed):\n%s\n%s", seed, q, diff, routes)
		}
	}
}

// Whatever the routes and whatever is asked: the same handlers run in the same
// order, with the same groups, errors and placeholders, to the same end.
func TestIndexedIsAsStock(t *testing.T) {
	for seed := range uint64(300) {
		same(t, seed, 60)
	}
}

// A matcher of a third party may change what it is asked about, though it says
// no. What comes after it is looked up anew.
func TestMatcherChangesTheRequest(t *testing.T) {
	routes := []object{{"match": []object{{"asked": object{"name": "m", "says": "elsewhere"}}}, "handle": []object{}}}
	for _, path := range []string{"/1", "/2", "/3", "/4", "/5", "/a/b"} {
		routes = append(routes, object{"match": []object{{"path": []string{path}}}, "handle": []object{{"handler": "probe", "name": path, "does": "stop"}}})
	}
	text, err := json.Marshal(routes)
	if err != nil {
		t.Fatal(err)
	}
	stock, indexed := servers(t, string(text), "[]")
	want, got := ask(stock, request{method: "GET", host: "a.test", path: "/3"}), ask(indexed, request{method: "GET", host: "a.test", path: "/3"})
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 4 {
		t.Errorf("%q (-stock +indexed):\n%s", got, diff)
	}
}

func FuzzIndexedIsAsStock(f *testing.F) {
	for i, path := range asPath {
		f.Add(uint64(i), "GET", asHost[i%len(asHost)], path)
	}
	f.Fuzz(func(t *testing.T, seed uint64, method, host, path string) {
		same(t, seed%1000, 4, request{method: method, host: host, path: path})
	})
}
