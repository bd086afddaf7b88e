package main

import (
	"fmt"
	"strings"
)

// scenario is one job that contestants do under the same load.
type scenario struct {
	letter, what string
	contestants  []contestant
	tokens       string // a file of tokens that callers take turns with; empty: none
	header       string // sent with every request
	refused      bool   // answers other than 2xx are what is measured
	tls          bool   // clients come over TLS
	drive        string // what loads it, one of drivers; empty: wrk
	script       string // a script of wrk's that makes the requests; empty: none
	slow         bool   // a run takes long to have an answer for everybody
	idle         int    // connections that were used once and stay open meanwhile
}

// contestant is a program and its configuration for one scenario.
type contestant struct {
	name   string
	kind   string // sallyport, caddy, nginx, haproxy or peer
	config string // what stands in the site, or the frontend; a peer's command
	global string // what stands in the global options
	gogc   string // GOGC; empty: the program's own choice
	path   string // what is asked for; empty: /
	binary string // another build of the gateway; empty: the one that is measured
}

const (
	breakerProxy = "breaker_proxy {$UPSTREAM}\n"
	limit        = "rate_limit {\n\tzone per_user {\n\t\tkey {http.request.header.X-User}\n\t\trate 1000000/1s\n\t}\n}\n"
	limitUser    = "rate_limit {\n\tzone per_user {\n\t\tkey {http.auth.user.id}\n\t\trate 1000000/1s\n\t}\n}\n"
	jwt          = "jwt main {\n\tforward sub X-User-Id\n}\n"
	issuer       = "issuer main {\n\tissuer {$ISSUER}\n\tjwks {$ISSUER}jwks.json\n\taudience orders-api\n}\n"
	uncached     = "issuer main {\n\tissuer {$ISSUER}\n\tjwks {$ISSUER}jwks.json\n\taudience orders-api\n\tcache off\n}\n"
	redis        = "redis {$REDIS}\n"
	sink         = "audit {\n\tsink http {$SINK}\n}\n"
	chain        = "telemetry\naudit\nproblem\n" + jwt + limitUser + breakerProxy
	bearer       = "http-request set-var(txn.bearer) http_auth_bearer\n" +
		"http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')\n" +
		"http-request deny unless { var(txn.bearer),jwt_payload_query('$.iss') -m found }\n"
	toTLS = " https://{$UPSTREAM_TLS} {\n\ttransport http {\n\t\ttls_trust_pool file {$CERTIFICATE}\n\t\tversions 1.1\n\t}\n}\n"
)

func ours(name, global, config string) contestant {
	return contestant{name: name, kind: "sallyport", global: global, config: config}
}

func stockWith(config string) (stock, lean contestant) {
	stock = contestant{name: "stock Caddy, bare", kind: "caddy", config: config}
	lean = stock
	lean.name, lean.gogc = lean.name+", GOGC=400", "400"
	return stock, lean
}

// stock is the reference of every ratio: stock Caddy as a bare proxy, as shipped
// and with Sallyport's GOGC.
func (s *set) stock() (stock, lean contestant) { return stockWith("reverse_proxy {$UPSTREAM}\n") }

// scenarios are what the issue of speed is judged by. The references stand in each.
func (s *set) scenarios() []scenario {
	stock, lean := s.stock()
	verify := func(alg string) contestant {
		return contestant{name: "HAProxy jwt_verify", kind: "haproxy", config: bearer +
			"http-request deny unless { var(txn.alg) -m str " + alg + " }\n" +
			"http-request deny unless { var(txn.bearer),jwt_verify(txn.alg,\"" + s.pem[alg] + "\") 1 }\n"}
	}
	tokens := func(alg string) []contestant {
		return []contestant{stock, lean, ours("Sallyport, returning tokens", issuer, jwt+breakerProxy),
			ours("Sallyport, every token new", uncached, jwt+breakerProxy), verify(alg)}
	}
	refusing := func(letter, what string, c contestant) scenario {
		return scenario{letter: letter, what: "refused: " + what, refused: true, contestants: []contestant{stock, lean, c}}
	}
	expired := refusing("F-exp", "a token that has expired", ours("Sallyport", issuer, "problem\n"+jwt+breakerProxy))
	expired.tokens = s.expired
	over := refusing("F-429", "the limit is used up", ours("Sallyport, memory", "",
		"problem\nrate_limit {\n\tzone per_user {\n\t\tkey {http.request.header.X-User}\n\t\trate 1/1h\n\t}\n}\n"+breakerProxy))
	over.header = "X-User: alice"
	return append([]scenario{
		{letter: "A", what: "bare proxy", contestants: []contestant{stock, lean,
			ours("Sallyport breaker_proxy", "", breakerProxy),
			ours("Sallyport breaker_proxy, lean off", "", "breaker_proxy {$UPSTREAM} {\n\tlean off\n}\n"),
			ours("Sallyport breaker_proxy, direct off", "", "breaker_proxy {$UPSTREAM} {\n\tdirect off\n}\n"),
			{name: "nginx", kind: "nginx"}, {name: "HAProxy", kind: "haproxy"}}},
		{letter: "B-RS", what: "and an RS256 token of 1,000", tokens: s.returning["RS256"], contestants: tokens("RS256")},
		{letter: "B-ES", what: "and an ES256 token of 1,000", tokens: s.returning["ES256"], contestants: tokens("ES256")},
		{letter: "C", what: "and a limit by caller", header: "X-User: alice", contestants: []contestant{stock, lean,
			ours("Sallyport, memory", "", limit+breakerProxy), ours("Sallyport, Redis", redis, limit+breakerProxy),
			{name: "nginx limit_req", kind: "nginx", config: "limit_req zone=callers burst=1000000 nodelay;\n"},
			{name: "HAProxy stick-table", kind: "haproxy", config: "stick-table type string size 1m expire 60s store http_req_rate(1s)\n" +
				"http-request track-sc0 req.hdr(X-User)\nhttp-request deny if { sc_http_req_rate(0) gt 1000000 }\n"}}},
		s.whole(),
		{letter: "E", what: "whole chain with every request traced", tokens: s.returning["RS256"], contestants: []contestant{stock, lean,
			ours("Sallyport, not traced", redis+issuer+sink, chain),
			ours("Sallyport, traced", redis+issuer+sink+"telemetry {\n\tendpoint {$COLLECTOR}\n\tprotocol http/protobuf\n}\n", chain)}},
		refusing("F-401", "no token", ours("Sallyport", issuer, "problem\n"+jwt+breakerProxy)), expired, over,
		{letter: "G", what: "bare proxy beside 10,000 idle connections", idle: 10_000, contestants: []contestant{stock, lean,
			ours("Sallyport breaker_proxy", "", breakerProxy)}},
		{letter: "H", what: "1,000 routes", slow: true, contestants: []contestant{
			routed(stock, "reverse_proxy", 1000, 0), routed(lean, "reverse_proxy", 1000, 0), routed(stock, "reverse_proxy", 1000, 999),
			routed(ours("Sallyport breaker_proxy", "", ""), "breaker_proxy", 1000, 0), routed(ours("Sallyport breaker_proxy", "", ""), "breaker_proxy", 1000, 999)}},
	}, s.others()...)
}

func (s *set) whole() scenario {
	stock, lean := s.stock()
	return scenario{letter: "D", what: "whole chain: RS256, limit in Redis, audit, breaker, metrics", tokens: s.returning["RS256"],
		contestants: []contestant{stock, lean, ours("Sallyport, returning tokens", redis+issuer+sink, chain),
			ours("Sallyport, every token new", redis+uncached+sink, chain)}}
}

// others are the protocols beside HTTP/1.1 in clear text.
func (s *set) others() []scenario {
	with := func(to string) []contestant {
		stock, lean := stockWith("reverse_proxy " + to + "\n")
		return []contestant{stock, lean, ours("Sallyport breaker_proxy", "", "breaker_proxy "+to+"\n")}
	}
	bare := with("{$UPSTREAM}")
	upTLS, upLean := stockWith("reverse_proxy" + toTLS)
	return []scenario{
		{letter: "I", what: "gRPC over h2c, one message a call", drive: "grpc", contestants: with("h2c://{$TALKER}")},
		{letter: "I-str", what: "gRPC over h2c, a message and its echo in a stream", drive: "grpc stream", contestants: with("h2c://{$TALKER}")},
		{letter: "J", what: "WebSocket, a frame and its echo", drive: "websocket", contestants: with("{$TALKER}")},
		{letter: "K", what: "clients over TLS", tls: true, contestants: append(bare, contestant{name: "nginx", kind: "nginx"}, contestant{name: "HAProxy", kind: "haproxy"})},
		{letter: "K-up", what: "an upstream over TLS", contestants: []contestant{upTLS, upLean, ours("Sallyport breaker_proxy", "", "breaker_proxy"+toTLS),
			ours("Sallyport breaker_proxy, direct off", "", "breaker_proxy"+strings.Replace(toTLS, "{\n", "{\n\tdirect off\n", 1))}},
	}
}

// routed has n routes to the upstream in c's site, and asks for one of them.
func routed(c contestant, proxy string, n, route int) contestant {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "handle /route-%d/* {\n\t%s {$UPSTREAM}\n}\n", i, proxy)
	}
	c.config, c.path = b.String(), fmt.Sprintf("/route-%d/x", route)
	c.name += map[bool]string{true: ", first", false: ", last"}[route == 0]
	return c
}
