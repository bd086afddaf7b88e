package jwtauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// endpoint is an introspection endpoint that a test switches.
type endpoint struct {
	*httptest.Server
	answer atomic.Value // of func(token string) (status int, body string)
	asked  atomic.Int32
}

func newEndpoint(t *testing.T) *endpoint {
	e := new(endpoint)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		id, secret, _ := r.BasicAuth()
		if id != "gateway" || secret != "s%26cret" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		status, body := e.answer.Load().(func(string) (int, string))(r.PostFormValue("token"))
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) says(status int, body string) {
	e.answer.Store(func(string) (int, string) { return status, body })
}

func TestOpaqueTokens(t *testing.T) {
	i := newIDP(t, "EdDSA")
	e := newEndpoint(t)
	t.Setenv("SALLYPORT_TEST_SECRET", "s&cret")
	g := start(t, i, "introspect "+e.URL+" {\n client gateway {env.SALLYPORT_TEST_SECRET}\n cache off\n}", "jwt main {\n require scope orders:read\n forward sub X-User-Id\n}")
	exp := itoa(time.Now().Add(time.Hour).Unix())
	active := `"active":true,"aud":"` + testAudience + `","sub":"ada","exp":` + exp
	for _, c := range []struct {
		name   string
		answer int
		body   string
		status int
		code   string
	}{
		{"active", 200, `{` + active + `,"scope":"orders:read"}`, 200, ""},
		{"active without the scope", 200, `{` + active + `}`, 403, "scope-insufficient"},
		{"inactive", 200, `{"active":false}`, 401, "token-invalid"},
		{"active as text", 200, strings.Replace(`{`+active+`}`, "true", `"true"`, 1), 401, "token-invalid"},
		{"active and inactive", 200, `{"active":false,` + active + `}`, 503, "keys-unavailable"},
		{"says nothing", 200, `{}`, 401, "token-invalid"},
		{"another audience", 200, `{"active":true,"aud":"other","exp":` + exp + `}`, 401, "token-invalid"},
		{"no audience", 200, `{"active":true,"exp":` + exp + `}`, 401, "token-invalid"},
		{"another issuer", 200, `{` + active + `,"iss":"https://evil.example"}`, 401, "token-invalid"},
		{"expired", 200, `{"active":true,"aud":"` + testAudience + `","exp":1000}`, 401, "token-expired"},
		{"bound to a certificate", 200, `{` + active + `,"cnf":{"x5t#S256":"AAAA"}}`, 401, "token-bound"},
		{"garbage", 200, `<html>`, 503, "keys-unavailable"},
		{"500", 500, `{` + active + `}`, 503, "keys-unavailable"},
		{"401", 401, `{` + active + `}`, 503, "keys-unavailable"},
		{"huge", 200, `{` + active + `,"x":"` + strings.Repeat("x", 70<<10) + `"}`, 503, "keys-unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.says(c.answer, c.body)
			a := g.get(t, "2YotnFZFEjr1zCsicMWpAA")
			if a.status != c.status || a.code != c.code {
				t.Errorf("%d %s, want %d %s", a.status, a.body, c.status, c.code)
			}
		})
	}
	before := e.asked.Load()
	if a := g.get(t, i.token(t)); a.status != 200 || e.asked.Load() != before {
		t.Errorf("a signed token: %d, asked %d times", a.status, e.asked.Load()-before)
	}
	if a := g.get(t, "what%is this"); a.status != 401 || e.asked.Load() != before {
		t.Errorf("what is no token at all: %d, asked %d times", a.status, e.asked.Load()-before)
	}
}

func TestIntrospectionIsRemembered(t *testing.T) {
	i := newIDP(t, "EdDSA")
	e := newEndpoint(t)
	t.Setenv("SALLYPORT_TEST_SECRET", "s&cret")
	g := start(t, i, "introspect "+e.URL+" {\n client gateway {env.SALLYPORT_TEST_SECRET}\n}", "jwt main")
	e.says(200, `{"active":true,"aud":"`+testAudience+`","jti":"one"}`)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a := g.get(t, "opaque"); a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	first := e.asked.Load()
	for range 20 {
		g.get(t, "opaque")
	}
	if n := e.asked.Load(); n != first || n > 10 {
		t.Errorf("asked %d times at first and %d times in all", first, n)
	}
	g.get(t, "opaque2")
	if n := e.asked.Load(); n != first+1 {
		t.Errorf("another token is not asked about: %d", n-first)
	}
	if _, err := tell(t, "main", `{"jti":"one"}`); err != nil {
		t.Fatal(err)
	}
	if a := g.get(t, "opaque"); a.status != 401 {
		t.Errorf("revoked while remembered: %d", a.status)
	}
}

// What strangers make up is asked about once in a while too, and drives out
// nothing that is known to be good.
func TestInactiveTokensAreRemembered(t *testing.T) {
	i := newIDP(t, "EdDSA")
	e := newEndpoint(t)
	t.Setenv("SALLYPORT_TEST_SECRET", "s&cret")
	g := start(t, i, "introspect "+e.URL+" {\n client gateway {env.SALLYPORT_TEST_SECRET}\n}", "jwt main")
	e.says(200, `{"active":true,"aud":"`+testAudience+`"}`)
	if a := g.get(t, "good"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	e.says(200, `{"active":false}`)
	for range 10 {
		if a := g.get(t, "made-up"); a.status != 401 || a.code != "token-invalid" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if n := e.asked.Load(); n > 3 { // more than once only if 5 s have passed
		t.Errorf("asked %d times about two tokens", n)
	}
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_issuers")
	if err != nil {
		t.Fatal(err)
	}
	in := app.(*Issuers).Issuers["main"].introspector
	for n := range 20000 {
		tok, err := token.FromClaims(fmt.Sprintf("made-up-%d", n), `{"active":false}`)
		if err != nil {
			t.Fatal(err)
		}
		in.inactive.put(&facts{token: tok}, time.Now(), time.Minute)
	}
	if in.inactive.bytes > introspectBytes {
		t.Errorf("inactive tokens take %d bytes, at most are %d", in.inactive.bytes, introspectBytes)
	}
	before := e.asked.Load()
	if a := g.get(t, "good"); a.status != 200 || e.asked.Load() != before {
		t.Errorf("the good one: %d, asked again %d times", a.status, e.asked.Load()-before)
	}
}

func TestIntrospectAlways(t *testing.T) {
	i := newIDP(t, "EdDSA")
	e := newEndpoint(t)
	t.Setenv("SALLYPORT_TEST_SECRET", "s&cret")
	g := start(t, i, "introspect "+e.URL+" {\n client gateway {env.SALLYPORT_TEST_SECRET}\n always\n cache off\n}", "jwt main")
	e.says(200, `{"active":true,"aud":"`+testAudience+`"}`)
	tok := i.token(t)
	if a := g.get(t, tok); a.status != 200 {
		t.Errorf("active: %d %s", a.status, a.body)
	}
	e.says(200, `{"active":false}`)
	if a := g.get(t, tok); a.status != 401 {
		t.Errorf("inactive: %d", a.status)
	}
	if a := g.get(t, i.token(t, map[string]any{"exp": 1000})); a.status != 401 {
		t.Errorf("expired by its own words: %d", a.status)
	}
}
