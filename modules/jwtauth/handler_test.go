package jwtauth

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestValidTokenPasses(t *testing.T) {
	i := newIDP(t, "ES256")
	g := launch(t, i, "", "jwt main {\n require scope orders:read\n forward sub X-User-Id\n}")
	a := g.get(t, i.token(t))
	if a.status != 200 {
		t.Fatalf("status %d, %s", a.status, a.body)
	}
	if got := g.upstreamSaw(t).Header.Get("X-User-Id"); got != "ada" {
		t.Errorf("X-User-Id = %q, want ada", got)
	}
	if a := g.get(t, ""); a.status != 401 || a.code != "token-missing" {
		t.Errorf("without a token: %d %s", a.status, a.body)
	} else if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="api"` {
		t.Errorf("challenge %q names an error although nothing was sent", got)
	}
	a = g.get(t, i.token(t, map[string]any{"scope": "orders:write"}))
	if a.status != 403 || a.code != "scope-insufficient" {
		t.Errorf("without the scope: %d %s", a.status, a.body)
	}
	if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_scope"`) || !strings.Contains(got, `scope="orders:read"`) {
		t.Errorf("challenge %q", got)
	}
}

func TestRequirements(t *testing.T) {
	i := newIDP(t, "EdDSA")
	for _, c := range []struct {
		name, require string
		claims        map[string]any
		status        int
	}{
		{"all scopes", "scope a b", map[string]any{"scope": "b a c"}, 200},
		{"one of all scopes", "scope a b", map[string]any{"scope": "a"}, 403},
		{"any scope", "any scope a b", map[string]any{"scope": "b"}, 200},
		{"none of any", "any scope a b", map[string]any{"scope": "c"}, 403},
		{"part of a scope", "scope a", map[string]any{"scope": "ab a:b"}, 403},
		{"scope array", "scope a", map[string]any{"scope": []string{"b", "a"}}, 200},
		{"scp", "scope a", map[string]any{"scope": nil, "scp": []string{"a"}}, 200},
		{"no scope claim", "scope a", map[string]any{"scope": nil}, 403},
		{"role", "role admin", map[string]any{"roles": []string{"admin"}}, 200},
		{"nested role", "claim /realm_access/roles admin", map[string]any{"realm_access": map[string]any{"roles": []string{"x", "admin"}}}, 200},
		{"missing role", "role admin", nil, 403},
		{"namespaced claim", "claim https://example.com/roles r", map[string]any{"https://example.com/roles": []string{"r"}}, 200},
		{"dots are literal", "claim a.b c", map[string]any{"a": map[string]any{"b": "c"}}, 403},
		{"claim is there", "claim tenant", map[string]any{"tenant": 7}, 200},
		{"claim is null", "claim tenant", map[string]any{"tenant": nil}, 403},
		{"number", "claim tenant 7", map[string]any{"tenant": 7}, 200},
		{"text that looks like the number", "claim tenant 7", map[string]any{"tenant": "7"}, 200},
		{"another number", "claim tenant 7", map[string]any{"tenant": 70}, 403},
		{"boolean", "claim admin true", map[string]any{"admin": true}, 200},
		{"all of an array", "claim g a b", map[string]any{"g": []string{"a"}}, 403},
		{"any of an array", "any claim g a b", map[string]any{"g": []string{"b"}}, 200},
		{"object", "claim o a", map[string]any{"o": map[string]any{"a": 1}}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, i, "", "jwt main {\n require "+c.require+"\n}")
			if a := g.get(t, i.token(t, c.claims)); a.status != c.status {
				t.Errorf("require %s of %v: %d, want %d", c.require, c.claims, a.status, c.status)
			}
		})
	}
}

func TestSources(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", `jwt main {
		source header
		source header X-Api-Token
		source cookie session
		source query token
		source websocket
	}`)
	tok := i.token(t)
	k8s := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(tok))
	ws := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Protocol"}
	for _, c := range []struct {
		name, query string
		headers     []string
		status      int
	}{
		{"header", "", []string{"Authorization", "Bearer " + tok}, 200},
		{"another header", "", []string{"X-Api-Token", tok}, 200},
		{"cookie", "", []string{"Cookie", "a=b; session=" + tok}, 200},
		{"query", "?a=1&token=" + tok, nil, 200},
		{"websocket", "", append(ws, "bearer, "+tok+", chat"), 200},
		{"websocket as Kubernetes does", "", append(ws, "chat, "+k8s), 200},
		{"websocket without upgrade", "", []string{"Sec-Websocket-Protocol", "bearer, " + tok}, 401},
		{"websocket, two tokens", "", append(ws, "bearer, "+tok+", "+k8s), 400},
		{"header and query", "?token=" + tok, []string{"Authorization", "Bearer " + tok}, 400},
		{"header and a query that is no source", "?access_token=" + tok, []string{"Authorization", "Bearer " + tok}, 400},
		{"header and cookie", "", []string{"Authorization", "Bearer " + tok, "Cookie", "session=" + tok}, 400},
		{"cookie twice", "", []string{"Cookie", "session=" + tok + "; session=x"}, 400},
		{"query twice", "?token=x&token=" + tok, nil, 400},
		{"query that is no source", "?access_token=" + tok, nil, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/orders"+c.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; n < len(c.headers); n += 2 {
				req.Header[c.headers[n]] = append(req.Header[c.headers[n]], c.headers[n+1])
			}
			if a := g.do(t, req); a.status != c.status {
				t.Fatalf("%d %s, want %d", a.status, a.body, c.status)
			}
			if c.status != 200 || c.name == "header" || c.name == "another header" {
				return
			}
			seen := g.upstreamSaw(t)
			all := seen.RequestURI
			for _, values := range seen.Header {
				all += " " + strings.Join(values, " ")
			}
			if strings.Contains(all, tok[:20]) || strings.Contains(all, k8s[:60]) {
				t.Errorf("the token went on to the upstream: %s", all)
			}
		})
	}
}

func TestTokenStripAndKeep(t *testing.T) {
	i := newIDP(t, "EdDSA")
	tok := i.token(t)
	for _, c := range []struct{ option, want string }{{"", "Bearer " + tok}, {"token keep", "Bearer " + tok}, {"token strip", ""}} {
		g := start(t, i, "", "jwt main {\n"+c.option+"\n}")
		if a := g.get(t, tok); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if got := g.upstreamSaw(t).Header.Get("Authorization"); got != c.want {
			t.Errorf("with %q the upstream gets %q", c.option, got)
		}
	}
}

func TestOptionalAndPreflight(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", "jwt main {\n optional\n require scope x\n}")
	if a := g.get(t, ""); a.status != 200 {
		t.Errorf("anonymous: %d", a.status)
	}
	if a := g.get(t, "bad"); a.status != 401 {
		t.Errorf("a bad token where none is needed: %d, want 401", a.status)
	}
	if a := g.get(t, i.token(t)); a.status != 403 {
		t.Errorf("a good token without the scope: %d, want 403", a.status)
	}

	g = launch(t, i, "", "jwt main {\n preflight pass\n}")
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{[]string{"Origin", "https://a.example", "Access-Control-Request-Method", "PUT"}, 200},
		{[]string{"Origin", "https://a.example"}, 401},
		{nil, 401},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, g.url+"/orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(c.headers); n += 2 {
			req.Header.Set(c.headers[n], c.headers[n+1])
		}
		if a := g.do(t, req); a.status != c.status {
			t.Errorf("OPTIONS with %v: %d, want %d", c.headers, a.status, c.status)
		}
	}
}

func TestForwardedValues(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", `jwt main {
		forward v X-Plain
		forward v X-Json json
		forward v X-Base64 base64url
	}`)
	for _, c := range []struct {
		name, value         string // value as JSON
		plain, json, base64 string
		status              int
	}{
		{"text", `"ada l"`, "ada l", `"ada l"`, "ImFkYSBsIg", 200},
		{"big number", `12345678901234567890.10`, "12345678901234567890.10", "12345678901234567890.10", "", 200},
		{"boolean", `false`, "false", "false", "", 200},
		{"null", `null`, "", "", "", 200},
		{"array", `["a","b",3]`, "a,b,3", `["a","b",3]`, "", 200},
		{"array with a comma", `["a,b","c"]`, `["a,b","c"]`, `["a,b","c"]`, "", 200},
		{"array with another", `["é"]`, `["\u00e9"]`, `["\u00e9"]`, "", 200},
		{"empty array", `[]`, "[]", "[]", "", 200},
		{"object", `{"b":1, "a":"\u00e9\ud83d\ude00<"}`, `{"a":"\u00e9\ud83d\ude00<","b":1}`, `{"a":"\u00e9\ud83d\ude00<","b":1}`, "", 200},
		{"placeholder", `"{env.HOME}{http.request.uri}"`, "{env.HOME}{http.request.uri}", `"{env.HOME}{http.request.uri}"`, "", 200},
		{"not ASCII", `"é"`, "", "", "", 401},
		{"line break", `"a\nb"`, "", "", "", 401},
		{"leading space", `" a"`, "", "", "", 401},
		{"too long", `"` + strings.Repeat("x", 4097) + `"`, "", "", "", 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.get(t, i.token(t, map[string]any{"v": json.RawMessage(c.value)}))
			if a.status != c.status {
				t.Fatalf("%d %s, want %d", a.status, a.body, c.status)
			}
			if c.status != 200 {
				return
			}
			h := g.upstreamSaw(t).Header
			if got := h.Get("X-Plain"); got != c.plain {
				t.Errorf("plain %q, want %q", got, c.plain)
			}
			if got := h.Get("X-Json"); got != c.json {
				t.Errorf("json %q, want %q", got, c.json)
			}
			if got := h.Get("X-Base64"); c.base64 != "" && got != c.base64 {
				t.Errorf("base64url %q, want %q", got, c.base64)
			}
		})
	}
}

func TestPlaceholdersAndExpressions(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", `@admin expression "'admin' in {http.auth.user.roles} && {http.auth.user.level} > 2"
		route {
			jwt main
			header X-Id "{http.auth.user.id} {http.auth.user.tenant} {http.auth.user./realm_access/level} {sallyport.subject} {sallyport.issuer}"
			header @admin X-Admin yes
		}`)
	tok := i.token(t, map[string]any{
		"tenant": "{env.PATH}", "realm_access": map[string]any{"level": 9}, "roles": []string{"admin"}, "level": 3, "id": "mallory",
	})
	a := g.get(t, tok)
	if got, want := a.header.Get("X-Id"), "ada {env.PATH} 9 ada main"; got != want {
		t.Errorf("placeholders %q, want %q", got, want)
	}
	if a.header.Get("X-Admin") != "yes" {
		t.Errorf("the expression does not match: %v", a.header)
	}
	a = g.get(t, i.token(t, map[string]any{"roles": []string{"user"}, "level": 3}))
	if a.header.Get("X-Admin") != "" {
		t.Error("the expression matches a token without the role")
	}
}

func TestSeveralIssuers(t *testing.T) {
	one, two := newIDP(t, "EdDSA"), newIDP(t, "EdDSA") // both call their key k1
	g := launch(t, one, "}\n issuer other {\n issuer "+two.URL+"\n audience "+testAudience+"\n jwks "+two.URL+"\n}\nissuer third {\nissuer "+one.URL+"\n audience billing-api\n jwks "+one.URL,
		"jwt main other third {\n forward sub X-User-Id\n}")
	for name, tok := range map[string]string{"first": one.token(t), "second": two.token(t), "same iss, other audience": one.token(t, map[string]any{"aud": "billing-api"})} {
		if a := g.get(t, tok); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	crossed := signed(t, two.keys[0], nil, one.claims())
	if a := g.get(t, crossed); a.status != 401 {
		t.Errorf("a token of one issuer signed by the other: %d, want 401", a.status)
	}
	if a := g.get(t, two.token(t, map[string]any{"aud": "billing-api"})); a.status != 401 {
		t.Errorf("an audience of the other issuer: %d, want 401", a.status)
	}
}

// Of two directives on one request, the last to identify the caller counts.
func TestTwoDirectivesOnOneRequest(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", `route {
		jwt main
		jwt main {
			source header X-Second
		}
		header X-Id "{http.auth.user.id} {http.auth.user.tenant} {sallyport.subject}"
	}`)
	a := g.get(t, i.token(t), "X-Second", i.token(t, map[string]any{"sub": "bob", "tenant": 7}))
	if got := a.header.Get("X-Id"); a.status != 200 || got != "bob 7 bob" {
		t.Errorf("%d, placeholders %q, want those of the second", a.status, got)
	}
}
