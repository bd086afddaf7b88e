package breaker

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const hi = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nX-Up: yes\r\n\r\nhi"

// get writes a GET with some fields, each without its line end.
func asks(fields ...string) string { return line("GET", "/a?b=c", "", fields...) }

func line(method, target, body string, fields ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: shop.example\r\n")
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

// bout is one exchange that both ways must carry alike.
type bout struct {
	name, proxy, request string
	of                   script
	again                bool // twice, to see whether the connection is kept
}

var bouts = []bout{
	{name: "get", request: asks("User-Agent: me", "Accept: */*", "Cookie: a=b", "Cookie: c=d"), of: says(hi, hi), again: true},
	{name: "no agent", request: asks(), of: says(hi)},
	{name: "empty agent", request: asks("User-Agent: "), of: says(hi)},
	{name: "head", request: line("HEAD", "/", ""), of: says("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", hi)},
	{name: "head without a length", request: line("HEAD", "/", ""), of: says("HTTP/1.1 200 OK\r\nX-Up: 1\r\n\r\n")},
	{name: "head, chunked", request: line("HEAD", "/", ""), of: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")},
	{name: "options", request: line("OPTIONS", "/x", ""), of: says(hi)},
	{name: "delete", request: line("DELETE", "/x", ""), of: says(hi)},
	{name: "own method", request: line("PURGE", "/x", ""), of: says(hi)},
	{name: "escapes", request: line("GET", "/a%2Fb%20c/?q=%41&x=a+b", ""), of: says(hi)},
	{name: "absolute form", request: line("GET", "http://other.example/x?y", ""), of: says(hi)},
	{name: "HTTP/1.0", request: "GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n", of: says(hi)},
	{name: "1.0 kept", request: "GET / HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n", of: says(hi)},
	{name: "post", request: line("POST", "/", "a body", "Content-Length: 6", "Content-Type: text/plain"), of: says(hi, hi), again: true},
	{name: "post nothing", request: line("POST", "/", "", "Content-Length: 0"), of: says(hi)},
	{name: "post without a length", request: line("POST", "/", ""), of: says(hi)},
	{name: "get with a body", request: line("GET", "/", "abc", "Content-Length: 3"), of: says(hi)},
	{name: "long post", request: line("PUT", "/", strings.Repeat("b", 200_000), "Content-Length: 200000"), of: says(hi)},
	{name: "chunked", request: line("POST", "/", "5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), of: says(hi, hi), again: true},
	{name: "chunked, empty", request: line("POST", "/", "0\r\n\r\n", "Transfer-Encoding: chunked"), of: says(hi)},
	{name: "chunked get", request: line("GET", "/", "5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), of: says(hi)},
	{name: "request trailers", request: line("POST", "/", "5\r\nhello\r\n0\r\nX-T: v\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-T"), of: says(hi)},
	{name: "request trailers unannounced", request: line("POST", "/", "5\r\nhello\r\n0\r\nX-T: v\r\n\r\n", "Transfer-Encoding: chunked"), of: says(hi)},
	{name: "expectation", request: line("POST", "/", "body", "Expect: 100-continue", "Content-Length: 4"), of: says("HTTP/1.1 100 Continue\r\n\r\n" + hi)},
	{name: "incremental", request: line("POST", "/", "body", "Incremental: ?1", "Content-Length: 4"), of: says(hi)},

	{name: "hop-by-hop", request: asks("Connection: X-Hop, keep-alive", "X-Hop: 1", "Keep-Alive: 5", "Te: trailers, deflate", "Proxy-Authorization: a",
		"Proxy-Authenticate: b", "Proxy-Connection: c", "Alt-Svc: d", "Trailer: e", "Transfer-Encoding-X: f"), of: says(hi)},
	{name: "TE alone", request: asks("TE: trailers"), of: says(hi)},
	{name: "TE nominated", request: asks("TE: trailers", "Connection: TE"), of: says(hi)},
	{name: "TE of another kind", request: asks("TE: gzip"), of: says(hi)},
	{name: "upgrade not asked for in Connection", request: asks("Upgrade: h2c"), of: says(hi)},
	{name: "nominated: what proxies write", request: asks("Connection: X-Forwarded-For, Via, User-Agent, Host, x-forwarded-proto", "X-Forwarded-For: 1", "Via: 1.0 a", "User-Agent: b"), of: says(hi)},
	{name: "two Connection fields", request: asks("Connection: X-A", "Connection:  x-b ,, close", "X-A: 1", "X-B: 2", "X-C: 3"), of: says(hi)},
	{name: "forwarded, not trusted", request: asks("X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2", "X-Forwarded-Proto: https", "X-Forwarded-Host: a", "Forwarded: for=b"), of: says(hi)},
	{name: "forwarded, trusted", request: asks("X-Test-Trusted: 1", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2", "X-Forwarded-Proto: http", "X-Forwarded-Proto: https", "X-Forwarded-Host: a"), of: says(hi)},
	{name: "forwarded, trusted, empty", request: asks("X-Test-Trusted: 1", "X-Forwarded-For: ", "X-Forwarded-Proto: ", "X-Forwarded-Host: "), of: says(hi)},
	{name: "trusted by the proxy", proxy: `{"upstreams":[{"dial":"UP"}],"trusted_proxies":["10.0.0.0/8","127.0.0.1"]}`, request: asks("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"), of: says(hi)},
	{name: "trusted by the proxy, another", proxy: `{"upstreams":[{"dial":"UP"}],"trusted_proxies":["10.0.0.0/8"]}`, request: asks("X-Forwarded-For: 192.0.2.1"), of: says(hi)},
	{name: "from a Unix socket", request: asks("X-Test-From: @", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: b"), of: says(hi)},
	{name: "from a trusted Unix socket", request: asks("X-Test-From: @", "X-Test-Trusted: 1", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: b"), of: says(hi)},
	{name: "from nowhere", request: asks("X-Test-From: somewhere", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: b"), of: says(hi)},
	{name: "from a zone", request: asks("X-Test-From: [fe80::1%eth0]:5", "X-Forwarded-For: 192.0.2.1"), of: says(hi)},
	{name: "via", request: asks("Via: 1.0 fred, 1.1 p.example", "Via: 2 q"), of: says("HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 0\r\n\r\n")},
	{name: "fields set before", request: asks("X-Test-Before: 1"), of: says("HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nX-Up: a\r\nX-Up: b\r\nContent-Length: 0\r\n\r\n")},

	{name: "server and date", request: asks(), of: says("HTTP/1.1 200 OK\r\nServer: up/1\r\nDate: Mon, 01 Jan 2001 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")},
	{name: "cookies", request: asks(), of: says("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n")},
	{name: "hop-by-hop answer", request: asks(), of: says("HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-Up: 2\r\nKeep-Alive: 3\r\nProxy-Authenticate: 4\r\nAlt-Svc: 5\r\nUpgrade: 6\r\nContent-Length: 0\r\n\r\n")},
	{name: "many fields", request: asks(), of: says("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Many: v\r\nX-Up: w\r\n", 40) + "Content-Length: 0\r\n\r\n")},
	{name: "chunked answer", request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", hi), again: true},
	{name: "announced trailers", request: asks("TE: trailers"), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")},
	{name: "unannounced trailers", request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")},
	{name: "announced, and others come", request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n5\r\nhello\r\n0\r\nX-A: 2\r\nX-B: 1\r\n\r\n")},
	{name: "grpc-web", request: line("POST", "/s/M", "00000", "Content-Type: application/grpc-web+proto", "Content-Length: 5", "TE: trailers"),
		of: says("HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n00000\r\n14\r\n\x80\x00\x00\x00\x0fgrpc-status:0\r\n\r\n0\r\n\r\n")},
	{name: "until the end", request: asks(), of: ends("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")},
	{name: "1.0 answer", request: asks(), of: ends("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")},
	{name: "no content", request: asks(), of: says("HTTP/1.1 204 No Content\r\nX-Up: 1\r\n\r\n", hi), again: true},
	{name: "not modified", request: asks("If-None-Match: \"a\""), of: says("HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\nContent-Length: 10\r\n\r\n", hi), again: true},
	{name: "own reason", request: asks(), of: says("HTTP/1.1 299 Fine by me\r\nContent-Length: 0\r\n\r\n")},
	{name: "error", request: asks(), of: says("HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nbusy")},
	{name: "early hints", request: asks(), of: says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 2\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + hi)},
	{name: "hints and fields set before", request: asks("X-Test-Before: 1"), of: says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Up: 1\r\n\r\n" + hi)},
	{name: "event stream", request: asks("Accept: text/event-stream"), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n")},
	{name: "event stream with a length", request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\nContent-Length: 9\r\n\r\ndata: 1\n\n")},
	{name: "flushed at once", proxy: `{"upstreams":[{"dial":"UP"}],"flush_interval":-1}`, request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody")},
	{name: "flushed after a while", proxy: `{"upstreams":[{"dial":"UP"}],"flush_interval":"1h"}`, request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody", hi), again: true},
	{name: "flushed soon", proxy: `{"upstreams":[{"dial":"UP"}],"flush_interval":1}`, request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300_000))},
	{name: "a stream with a flush interval", proxy: `{"upstreams":[{"dial":"UP"}],"flush_interval":"1h"}`, request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: 1\n\n")},
	{name: "incremental answer", request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nIncremental: ?1\r\nContent-Length: 4\r\n\r\nbody")},
	{name: "zipped, not asked for", request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: " + zippedLen + "\r\n\r\n" + zippedText)},
	{name: "zipped, asked for", request: asks("Accept-Encoding: gzip"), of: says("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + zippedLen + "\r\n\r\n" + zippedText)},
	{name: "large answer", request: asks(), of: says("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300_000))},
	{name: "upgrade", request: asks("Connection: Upgrade", "Upgrade: echo"), of: script{answers: []string{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello"}, upgrades: true}},
	{name: "upgrade refused", request: asks("Connection: Upgrade", "Upgrade: echo"), of: says("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")},

	{name: "nothing", request: asks(), of: ends("", "")},
	{name: "nothing to a post", request: line("POST", "/", "body", "Content-Length: 4"), of: ends("")},
	{name: "reset", request: line("DELETE", "/", ""), of: says("RESET", "RESET")},
	{name: "half a head", request: line("DELETE", "/", ""), of: ends("HTTP/1.1 200 OK\r\nX-A")},
	{name: "half a body", request: asks(), of: ends("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")},
	{name: "half a chunk", request: asks(), of: ends("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf")},
	{name: "two lengths", request: asks(), of: ends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", "")},
	{name: "length and chunks", request: asks(), of: ends("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")},
	{name: "no HTTP", request: asks(), of: ends("hello\r\n\r\n", "")},
	{name: "folded", request: asks(), of: says("HTTP/1.1 200 OK\r\nX-Up: a\r\n b\r\nContent-Length: 0\r\n\r\n")},
	{name: "dead", proxy: `{"upstreams":[{"dial":"DEAD"}]}`, request: asks()},
	{name: "dead, post", proxy: `{"upstreams":[{"dial":"DEAD"}]}`, request: line("POST", "/", "body", "Content-Length: 4")},
	{name: "dead, retried", proxy: `{"upstreams":[{"dial":"DEAD"},{"dial":"UP"}],"load_balancing":{"selection_policy":{"policy":"first"},"retries":3,"try_interval":1}}`, request: asks()},
	{name: "dead once, then another", proxy: roundRobin, request: line("POST", "/", "body", "Content-Length: 4"), of: says(hi, hi), again: true},
	{name: "dead once, then another, chunked", proxy: roundRobin, request: line("POST", "/", "4\r\nbody\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), of: says(hi, hi), again: true},
	{name: "broken, get retried", proxy: `{"upstreams":[{"dial":"UP"}],"load_balancing":{"retries":2}}`, request: asks(), of: ends("HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")},
	{name: "broken, post not retried", proxy: `{"upstreams":[{"dial":"UP"}],"load_balancing":{"retries":2}}`, request: line("POST", "/", "body", "Content-Length: 4"), of: ends("HTTP/1.1 2", hi)},
	{name: "nobody there", proxy: `{"upstreams":[]}`, request: asks()},
	{name: "sticky", proxy: `{"upstreams":[{"dial":"UP"}],"load_balancing":{"selection_policy":{"policy":"header","field":"Via","fallback":{"policy":"first"}}}}`, request: asks(), of: says(hi)},
}

const roundRobin = `{"upstreams":[{"dial":"UP"},{"dial":"DEAD"}],"load_balancing":{"selection_policy":{"policy":"round_robin"},"retries":3}}`

var retries = regexp.MustCompile(`retries = .*\n`)

// TestLeanAndStockAreTheSame gives the same bytes to stock reverse_proxy and to
// the lean forwarder and compares what upstream and client get, and what the
// placeholders say.
func TestLeanAndStockAreTheSame(t *testing.T) {
	for _, b := range slices.Concat(bouts, fieldBouts) {
		t.Run(b.name, func(t *testing.T) {
			d := duelists(t, b.proxy, false)
			t.Parallel()
			b.fight(t, d)
		})
		t.Run(b.name+", over TLS", func(t *testing.T) {
			d := duelists(t, b.proxy, true)
			t.Parallel()
			b.fight(t, d)
		})
	}
}

// fight is the exchange, as often as it is asked for.
func (b bout) fight(t *testing.T, d *duel) {
	t.Helper()
	for range map[bool]int{false: 1, true: 2}[b.again] {
		stock, off, lean := d.stock.fight(t, b.request, b.of), d.off.fight(t, b.request, b.of), d.lean.fight(t, b.request, b.of)
		if diff := cmp.Diff(off, lean); diff != "" {
			t.Errorf("they differ (-lean off +lean):\n%s", diff)
		}
		// The one retry that a breaker has for its probes is all that is its own.
		if diff := cmp.Diff(retries.ReplaceAllString(stock, ""), retries.ReplaceAllString(lean, "")); diff != "" {
			t.Errorf("they differ (-reverse_proxy +lean):\n%s", diff)
		}
	}
}
