package main

// scenario is one job that contestants do under the same load.
type scenario struct {
	letter, what string
	contestants  []contestant
	tokens       string // a file of tokens that callers take turns with; empty: none
	header       string // sent with every request
	refused      bool   // answers other than 2xx are what is measured
}

// contestant is a program and its configuration for one scenario.
type contestant struct {
	name   string
	kind   string // sallyport, caddy, nginx or haproxy
	config string // what stands in the site, or the frontend
	global string // what stands in the global options
	gogc   string // GOGC; empty: the program's own choice
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
)

func ours(name, global, config string) contestant {
	return contestant{name: name, kind: "sallyport", global: global, config: config}
}

// scenarios are what the issue of speed is judged by. The reference of every
// ratio is stock Caddy as a bare proxy, which stands in each scenario.
func (s *set) scenarios() []scenario {
	stock := contestant{name: "stock Caddy, bare", kind: "caddy", config: "reverse_proxy {$UPSTREAM}\n"}
	lean := contestant{name: "stock Caddy, bare, GOGC=400", kind: "caddy", config: stock.config, gogc: "400"}
	verify := func(alg string) contestant {
		return contestant{name: "HAProxy jwt_verify", kind: "haproxy", config: bearer +
			"http-request deny unless { var(txn.alg) -m str " + alg + " }\n" +
			"http-request deny unless { var(txn.bearer),jwt_verify(txn.alg,\"" + s.pem[alg] + "\") 1 }\n"}
	}
	return []scenario{
		{letter: "A", what: "bare proxy", contestants: []contestant{stock, lean,
			ours("Sallyport breaker_proxy", "", breakerProxy),
			ours("Sallyport breaker_proxy, direct off", "", "breaker_proxy {$UPSTREAM} {\n\tdirect off\n}\n"),
			{name: "nginx", kind: "nginx"}, {name: "HAProxy", kind: "haproxy"}}},
		{letter: "B-RS", what: "and a returning RS256 token of 1,000", tokens: s.returning["RS256"], contestants: []contestant{stock,
			ours("Sallyport", issuer, jwt+breakerProxy), ours("Sallyport, no cache", uncached, jwt+breakerProxy), verify("RS256")}},
		{letter: "B-ES", what: "and a returning ES256 token of 1,000", tokens: s.returning["ES256"], contestants: []contestant{stock,
			ours("Sallyport", issuer, jwt+breakerProxy), ours("Sallyport, no cache", uncached, jwt+breakerProxy), verify("ES256")}},
		{letter: "C", what: "and a limit by caller", header: "X-User: alice", contestants: []contestant{stock,
			ours("Sallyport, memory", "", limit+breakerProxy), ours("Sallyport, Redis", redis, limit+breakerProxy),
			{name: "nginx limit_req", kind: "nginx", config: "limit_req zone=callers burst=1000000 nodelay;\n"},
			{name: "HAProxy stick-table", kind: "haproxy", config: "stick-table type string size 1m expire 60s store http_req_rate(1s)\n" +
				"http-request track-sc0 req.hdr(X-User)\nhttp-request deny if { sc_http_req_rate(0) gt 1000000 }\n"}}},
		{letter: "D", what: "whole chain: RS256, limit in Redis, audit, breaker, metrics", tokens: s.returning["RS256"], contestants: []contestant{stock,
			ours("Sallyport, returning tokens", redis+issuer+sink, chain), ours("Sallyport, every token new", redis+uncached+sink, chain)}},
		{letter: "E", what: "whole chain with every request traced", tokens: s.returning["RS256"], contestants: []contestant{stock,
			ours("Sallyport, not traced", redis+issuer+sink, chain),
			ours("Sallyport, traced", redis+issuer+sink+"telemetry {\n\tendpoint {$COLLECTOR}\n\tprotocol http/protobuf\n}\n", chain)}},
		{letter: "F-401", what: "refused: no token", refused: true, contestants: []contestant{stock, ours("Sallyport", issuer, "problem\n"+jwt+breakerProxy)}},
		{letter: "F-exp", what: "refused: a token that has expired", refused: true, tokens: s.expired, contestants: []contestant{stock, ours("Sallyport", issuer, "problem\n"+jwt+breakerProxy)}},
		{letter: "F-429", what: "refused: the limit is used up", refused: true, header: "X-User: alice", contestants: []contestant{stock,
			ours("Sallyport, memory", "", "problem\nrate_limit {\n\tzone per_user {\n\t\tkey {http.request.header.X-User}\n\t\trate 1/1h\n\t}\n}\n"+breakerProxy)}},
	}
}
