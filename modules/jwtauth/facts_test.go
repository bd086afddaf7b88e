package jwtauth

import (
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// ear remembers what observers are told.
type ear struct {
	mu    sync.Mutex
	facts []exchange.Fact
}

func listen(t *testing.T) *ear {
	e := new(ear)
	t.Cleanup(exchange.Listen(t.Name(), func(f exchange.Fact) {
		e.mu.Lock()
		defer e.mu.Unlock()
		f.Request = nil
		e.facts = append(e.facts, f)
	}))
	return e
}

func (e *ear) count(kind exchange.Kind, code string, attr slog.Attr) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.facts {
		for _, a := range f.Attrs {
			if f.Kind == kind && f.Code == code && a.Equal(attr) {
				n++
			}
		}
	}
	return n
}

func TestObserversAreTold(t *testing.T) {
	e := listen(t)
	i := newIDP(t, "EdDSA")
	g := start(t, i, "", "jwt main")
	issuer := slog.String("issuer", "main")
	waitFor(t, "the new keys to be told", func() bool { return e.count(exchange.KeysRefreshed, "keys-changed", issuer) == 1 })
	g.get(t, i.token(t, map[string]any{"aud": "other"}))
	if n := e.count(exchange.AuthRefused, "token-invalid", slog.String("reason", "audience")); n != 1 {
		t.Errorf("the refusal is told %d times with its reason, want once", n)
	}
	if n := testutil.CollectAndCount(&running); n != 3 {
		t.Errorf("%d series about key sets, want age, time and number of keys", n)
	}

	i.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	failed := func() float64 { return testutil.ToFloat64(fetchErrors.WithLabelValues("main", "status")) }
	for range 2 {
		before := failed()
		aged(t, time.Hour)
		g.get(t, signed(t, newKey(t, "EdDSA", "stranger"), nil, i.claims()))
		waitFor(t, "the failed fetch to be counted", func() bool { return failed() == before+1 })
	}
	waitFor(t, "the stale keys to be told", func() bool { return e.count(exchange.KeysStale, "keys-stale", issuer) > 0 })
	if n := e.count(exchange.KeysStale, "keys-stale", issuer); n != 1 {
		t.Errorf("stale keys are told %d times, want once", n)
	}
	i.behave(nil)
	aged(t, time.Minute)
	g.get(t, signed(t, newKey(t, "EdDSA", "stranger"), nil, i.claims()))
	waitFor(t, "the recovery to be told", func() bool { return e.count(exchange.KeysRefreshed, "keys-recovered", issuer) == 1 })
}

// A token that is refused anyway asks the issuer for nothing.
func TestOnlyPlausibleTokensHaveKeysFetched(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := start(t, i, "", "jwt main")
	stranger := newKey(t, "EdDSA", "stranger")
	aged(t, time.Minute)
	before := i.count()
	for name, claims := range map[string]map[string]any{
		"expired": {"exp": 1e9}, "another issuer": {"iss": "x"}, "another audience": {"aud": "x"}, "no expiry": {"exp": nil},
	} {
		if a := g.get(t, signed(t, stranger, nil, i.claims(claims))); a.status != 401 || i.count() != before {
			t.Errorf("%s: %d, %d fetches", name, a.status, i.count()-before)
		}
	}
	g.get(t, signed(t, stranger, nil, i.claims()))
	if n := i.count() - before; n != 1 {
		t.Errorf("a plausible token: %d fetches, want 1", n)
	}
}

func TestKeySetOverTLS(t *testing.T) {
	k := newKey(t, "EdDSA", "k1")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(mint.JWKS(k)) }))
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	i := &idp{Server: server, keys: []*mint.Key{k}}
	for options, want := range map[string]int{"jwks " + server.URL: 503, "jwks " + server.URL + "\nca " + ca: 200} {
		g := start(t, i, options, "jwt main")
		if a := g.get(t, i.token(t)); a.status != want {
			t.Errorf("%s: %d %s, want %d", options, a.status, a.body, want)
		}
	}
	if n := testutil.ToFloat64(fetchErrors.WithLabelValues("main", "tls")); n == 0 {
		t.Error("a certificate that nobody vouches for is not counted as such")
	}
}

func TestStaticKeys(t *testing.T) {
	i := newIDP(t, "ES256")
	dir := t.TempDir()
	set := filepath.Join(dir, "jwks.json")
	if err := os.WriteFile(set, mint.JWKS(i.keys[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, options := range []string{"jwks file " + set, "jwks inline `" + string(mint.JWKS(i.keys[0])) + "`"} {
		g := start(t, i, options, "jwt main")
		if a := g.get(t, i.token(t)); a.status != 200 {
			t.Errorf("%s: %d %s", options, a.status, a.body)
		}
		if i.count() != 0 {
			t.Error("the issuer was asked although its keys are here")
		}
	}
	g := start(t, i, "jwks file "+set, "jwt main")
	next := newKey(t, "ES256", "k2")
	if err := os.WriteFile(set, mint.JWKS(next), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the changed file to count", func() bool { return g.get(t, signed(t, next, nil, i.claims())).status == 200 })
}
