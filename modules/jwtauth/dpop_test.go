package jwtauth

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// RFC 9449 section 4.3, each check with what breaks it.
func TestProofs(t *testing.T) {
	i := newIDP(t, "ES256")
	g := launch(t, i, "", "jwt main")
	holder, thief := newKey(t, "ES256", ""), newKey(t, "ES256", "")
	tok := i.token(t, map[string]any{"cnf": map[string]any{"jkt": holder.Thumbprint()}})
	other := i.token(t, map[string]any{"sub": "bob", "cnf": map[string]any{"jkt": holder.Thumbprint()}})
	url := g.url + "/orders"
	proof := func(k *mint.Key, method, url, tok string, more map[string]any) string {
		p, err := k.Proof(method, url, tok, more)
		if err != nil {
			t.Fatal(err)
		}
		suite.remember(t, p)
		return p
	}
	good := func() string { return proof(holder, "GET", url, tok, nil) }
	claim := func(name string, v any) string { return proof(holder, "GET", url, tok, map[string]any{name: v}) }
	header := func(more map[string]any) string {
		jwk := holder.JWK()
		delete(jwk, "alg")
		h := map[string]any{"typ": "dpop+jwt", "jwk": jwk}
		maps.Copy(h, more)
		return signed(t, holder, h, map[string]any{
			"jti": "x", "htm": "GET", "htu": url, "iat": time.Now().Unix(), "ath": "x",
		})
	}
	private := holder.JWK()
	private["d"] = "AAAA"
	used := good()
	dpop, bearer := "DPoP "+tok, "Bearer "+tok
	now := time.Now().Unix()
	for _, c := range []struct {
		name, auth string
		proofs     []string
		status     int
		code       string
	}{
		{"good", dpop, []string{used}, 200, ""},
		{"used before", dpop, []string{used}, 401, "proof-invalid"},
		{"scheme in lower case", "dpop " + tok, []string{good()}, 200, ""},
		{"as a bearer token", bearer, nil, 401, "token-bound"},
		{"as a bearer token with a proof", bearer, []string{good()}, 401, "token-bound"},
		{"no proof", dpop, nil, 401, "token-bound"},
		{"two proofs", dpop, []string{good(), good()}, 401, "token-bound"},
		{"not a token", dpop, []string{"x.y.z"}, 401, "proof-invalid"},
		{"key of a thief", dpop, []string{proof(thief, "GET", url, tok, nil)}, 401, "proof-invalid"},
		{"for another token", dpop, []string{proof(holder, "GET", url, other, nil)}, 401, "proof-invalid"},
		{"no ath", dpop, []string{claim("ath", nil)}, 401, "proof-invalid"},
		{"another method", dpop, []string{proof(holder, "POST", url, tok, nil)}, 401, "proof-invalid"},
		{"another path", dpop, []string{proof(holder, "GET", url+"/", tok, nil)}, 401, "proof-invalid"},
		{"another host", dpop, []string{proof(holder, "GET", "http://evil.example/orders", tok, nil)}, 401, "proof-invalid"},
		{"another scheme", dpop, []string{proof(holder, "GET", "https"+strings.TrimPrefix(url, "http"), tok, nil)}, 401, "proof-invalid"},
		{"with a query", dpop, []string{proof(holder, "GET", url+"?a=b#c", tok, nil)}, 200, ""},
		{"scheme in upper case", dpop, []string{proof(holder, "GET", "HTTP"+strings.TrimPrefix(url, "http"), tok, nil)}, 200, ""},
		{"a minute old", dpop, []string{claim("iat", now-61)}, 401, "proof-invalid"},
		{"almost a minute old", dpop, []string{claim("iat", now-50)}, 200, ""},
		{"from the future", dpop, []string{claim("iat", now+30)}, 401, "proof-invalid"},
		{"no iat", dpop, []string{claim("iat", nil)}, 401, "proof-invalid"},
		{"no jti", dpop, []string{claim("jti", nil)}, 401, "proof-invalid"},
		{"typ JWT", dpop, []string{header(map[string]any{"typ": "JWT"})}, 401, "proof-invalid"},
		{"no key", dpop, []string{header(map[string]any{"jwk": nil})}, 401, "proof-invalid"},
		{"private key", dpop, []string{header(map[string]any{"jwk": private})}, 401, "proof-invalid"},
		{"alg none", dpop, []string{header(map[string]any{"alg": "none"})}, 401, "proof-invalid"},
		{"crit", dpop, []string{header(map[string]any{"crit": []string{"x"}})}, 401, "proof-invalid"},
		{"unbound token", "DPoP " + i.token(t), []string{good()}, 401, "token-bound"},
	} {
		t.Run(c.name, func(t *testing.T) {
			headers := []string{"Authorization", c.auth}
			for _, p := range c.proofs {
				headers = append(headers, "Dpop", p)
			}
			a := g.get(t, "", headers...)
			if a.status != c.status || a.code != c.code {
				t.Fatalf("%d %s, want %d %s", a.status, a.body, c.status, c.code)
			}
			if c.status == 200 {
				if g.upstreamSaw(t).Header.Get("Dpop") != "" {
					t.Error("the proof went on to the upstream")
				}
				return
			}
			challenges := strings.Join(a.header.Values("WWW-Authenticate"), "; ")
			if !strings.Contains(challenges, "DPoP ") || !strings.Contains(challenges, `algs="ES256 `) {
				t.Errorf("challenge %s", challenges)
			}
		})
	}
}

func TestUnknownBindingIsRefused(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", "jwt main")
	for _, cnf := range []any{
		map[string]any{"jwk": map[string]any{}}, map[string]any{"x5t#S256": "AAAA"}, map[string]any{}, "jkt", nil,
		map[string]any{"jkt": ""}, map[string]any{"jkt": 7}, []any{},
	} {
		claims := i.claims()
		claims["cnf"] = cnf
		if a := g.get(t, signed(t, i.keys[0], nil, claims)); a.status != 401 || a.code != "token-bound" {
			t.Errorf("cnf %v: %d %s", cnf, a.status, a.body)
		}
	}
}

func TestNonce(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := start(t, i, "", "jwt main {\n dpop {\n required\n nonce\n algorithms ES256\n}\n}")
	holder := newKey(t, "ES256", "")
	tok := i.token(t, map[string]any{"cnf": map[string]any{"jkt": holder.Thumbprint()}})
	ask := func(nonce any) answerTo {
		p, err := holder.Proof("GET", g.url+"/orders", tok, map[string]any{"nonce": nonce})
		if err != nil {
			t.Fatal(err)
		}
		return g.get(t, "", "Authorization", "DPoP "+tok, "Dpop", p)
	}
	a := ask(nil)
	nonce := a.header.Get("DPoP-Nonce")
	if a.status != 401 || a.code != "proof-nonce" || nonce == "" || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="use_dpop_nonce"`) {
		t.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	if a := ask("made up"); a.code != "proof-nonce" {
		t.Errorf("a nonce that nobody gave: %d %s", a.status, a.body)
	}
	if a := ask(nonce); a.status != 200 || a.header.Get("DPoP-Nonce") == "" {
		t.Errorf("with the nonce: %d %s", a.status, a.body)
	}
	if a := g.get(t, i.token(t)); a.status != 401 || a.code != "token-bound" {
		t.Errorf("an unbound token where a proof is required: %d %s", a.status, a.body)
	}
	if a := g.get(t, ""); strings.Contains(strings.Join(a.header.Values("WWW-Authenticate"), ""), "Bearer") {
		t.Errorf("a bearer token is asked for where none is taken: %v", a.header)
	}
}

func TestNonceLapses(t *testing.T) {
	one, two := newNonces("secret"), newNonces("secret")
	now := time.Unix(1_800_000_000, 0)
	n := one.make(now)
	for after, want := range map[time.Duration]bool{0: true, nonceLasts: true, nonceLasts + time.Second: false, -time.Minute: false} {
		if got := two.valid(n, now.Add(after)); got != want {
			t.Errorf("after %s: %t, want %t", after, got, want)
		}
	}
	if newNonces("").valid(n, now) {
		t.Error("a gateway with another secret takes it")
	}
}

// One test for both places where proofs are remembered.
func TestReplays(t *testing.T) {
	for name, store := range map[string]func(t *testing.T) replays{
		"memory": func(*testing.T) replays { return &inMemory{now: make(map[[16]byte]struct{})} },
		"redis":  redisReplays,
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			for n := range 3 {
				for _, want := range []bool{true, false, false} {
					if fresh, err := s.first(t.Context(), [32]byte{byte(n)}, time.Minute); err != nil || fresh != want {
						t.Fatalf("key %d: first = %t, %v; want %t", n, fresh, err, want)
					}
				}
			}
		})
	}
}

func TestMemoryForgetsNoProofEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &inMemory{now: make(map[[16]byte]struct{})}
		const ttl = 80 * time.Second
		for n := range 2000 {
			key := [32]byte{byte(n), byte(n >> 8), 1}
			if fresh, err := m.first(t.Context(), key, ttl); err != nil || !fresh {
				t.Fatalf("%d: %t, %v", n, fresh, err)
			}
			if back := n - 79; back >= 0 {
				if fresh, _ := m.first(t.Context(), [32]byte{byte(back), byte(back >> 8), 1}, ttl); fresh {
					t.Fatalf("a proof of 79 s ago is taken again")
				}
			}
			time.Sleep(time.Second)
		}
		if n := len(m.now) + len(m.old); n > 170 {
			t.Errorf("%d proofs are remembered, want those of two windows", n)
		}
	})
}

func TestProofsInRedisAreSharedAndFailClosed(t *testing.T) {
	i := newIDP(t, "ES256")
	server := redisServer(t)
	g := start(t, i, "}\nredis redis://"+server.Addr+" {", "jwt main {\n dpop {\n replay redis\n}\n}")
	holder := newKey(t, "ES256", "")
	tok := i.token(t, map[string]any{"cnf": map[string]any{"jkt": holder.Thumbprint()}})
	ask := func(jti string) answerTo {
		p, err := holder.Proof(http.MethodGet, g.url+"/orders", tok, map[string]any{"jti": jti})
		if err != nil {
			t.Fatal(err)
		}
		return g.get(t, "", "Authorization", "DPoP "+tok, "Dpop", p)
	}
	for n, want := range []int{200, 401} {
		if a := ask("one"); a.status != want {
			t.Errorf("request %d: %d %s, want %d", n, a.status, a.body, want)
		}
	}
	server.Stop()
	if a := ask("two"); a.status != 503 || a.code != "proof-unverifiable" || a.header.Get("Retry-After") == "" {
		t.Errorf("without Redis: %d %s", a.status, a.body)
	}
}

func TestMetadataDocument(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := new(gateway)
	address := freeAddress(t)
	g.url = "http://" + address
	g.load(t, i, "", `jwt /mcp/* main {
		resource `+g.url+`/mcp {
			scopes tools:read tools:call
			name Tools
		}
		require scope tools:call
	}`, "127.0.0.1:1")
	document := g.url + "/.well-known/oauth-protected-resource/mcp"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, document, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := g.do(t, req)
	for _, want := range []string{
		fmt.Sprintf(`"resource":"%s/mcp"`, g.url), fmt.Sprintf(`"authorization_servers":["%s"]`, i.URL),
		`"scopes_supported":["tools:read","tools:call"]`, `"bearer_methods_supported":["header"]`,
		`"tls_client_certificate_bound_access_tokens":true`, `"dpop_signing_alg_values_supported":["ES256"`,
	} {
		if a.status != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%d %s, want %s", a.status, a.body, want)
		}
	}
	if a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", a.header)
	}
	for _, c := range []struct {
		bearer string
		status int
	}{{"", 401}, {"nonsense", 401}, {i.token(t), 403}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/mcp/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.bearer != "" {
			req.Header.Set("Authorization", "Bearer "+c.bearer)
		}
		a := g.do(t, req)
		if got := a.header.Get("WWW-Authenticate"); a.status != c.status || !strings.Contains(got, `resource_metadata="`+document+`"`) || !strings.Contains(got, "scope=") && c.bearer != "nonsense" {
			t.Errorf("%d, challenge %s", a.status, got)
		}
	}
}
