package jwtauth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

func parsed(t testing.TB, k *mint.Key, claims map[string]any) *facts {
	t.Helper()
	tok, err := token.Parse(signed(t, k, nil, claims), token.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	return &facts{token: tok}
}

func TestCacheReturnsWhatWasPut(t *testing.T) {
	k := newKey(t, "EdDSA", "k1")
	now := time.Unix(1_800_000_000, 0)
	c := newCache(1 << 20)
	f := parsed(t, k, map[string]any{"sub": "ada", "exp": now.Unix() + 60})
	c.put(f, now, maxCached)
	if got := c.get(f.token.Raw(), now); got != f {
		t.Fatalf("got %v, want what was put", got)
	}
	if got := c.get(f.token.Raw()+"A", now); got != nil {
		t.Error("a longer token finds it too")
	}
	if got := c.get("x"+f.token.Raw()[1:], now); got != nil {
		t.Error("a token with the same signature finds it too")
	}
	if got := c.get(f.token.Raw(), now.Add(61*time.Second)); got != nil {
		t.Error("it outlives its token")
	}
	long := parsed(t, k, map[string]any{"sub": "bob", "exp": now.Unix() + 3600})
	c.put(long, now, maxCached)
	if got := c.get(long.token.Raw(), now.Add(maxCached)); got != nil {
		t.Error("it outlives the longest time that facts are remembered")
	}
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	k := newKey(t, "EdDSA", "k1")
	now := time.Now()
	c := newCache(64 << 10)
	for n := range 500 {
		c.put(parsed(t, k, map[string]any{"sub": fmt.Sprint(n), "exp": now.Unix() + 60}), now, maxCached)
	}
	held, bytes := 0, 0
	for b := range c.buckets {
		for w := range c.buckets[b] {
			if e := c.buckets[b][w].Load(); e != nil {
				held++
				bytes += e.size
			}
		}
	}
	if bytes != c.bytes || bytes > c.most || held < 10 {
		t.Errorf("%d entries of %d bytes, counted %d, bound %d", held, bytes, c.bytes, c.most)
	}
}

func TestCacheUnderRace(t *testing.T) {
	k := newKey(t, "EdDSA", "k1")
	now := time.Now()
	c := newCache(64 << 10)
	all := make([]*facts, 100)
	for n := range all {
		all[n] = parsed(t, k, map[string]any{"sub": fmt.Sprint(n), "exp": now.Unix() + 60})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				for _, f := range all {
					if got := c.get(f.token.Raw(), now); got != nil && got != f {
						t.Error("one token finds the facts of another")
					}
					c.put(f, now, maxCached)
				}
			}
		})
	}
	wg.Wait()
}

// A remembered token is asked everything anew that may have changed.
func TestRememberedTokenIsRechecked(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := start(t, i, "leeway 0s", "route /a {\n jwt main {\n require scope a\n}\n}\nroute /b {\n jwt main {\n require scope b\n}\n}")
	tok := i.token(t, map[string]any{"scope": "a", "exp": time.Now().Add(1500 * time.Millisecond).Unix()})
	ask := func(path string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+tok)
		return g.do(t, req).status
	}
	hits := testutil.ToFloat64(cacheRequests.WithLabelValues("main", "hit"))
	for path, want := range map[string]int{"/a": 200, "/b": 403} {
		for range 3 {
			if got := ask(path); got != want && got != 401 {
				t.Errorf("%s: %d, want %d", path, got, want)
			}
		}
	}
	if got := testutil.ToFloat64(cacheRequests.WithLabelValues("main", "hit")) - hits; got < 4 {
		t.Errorf("%v hits, want the token to be remembered", got)
	}
	waitFor(t, "the remembered token to expire", func() bool { return ask("/a") == 401 })
}

func TestSecretIsNotCached(t *testing.T) {
	i := newIDP(t, "EdDSA")
	k, err := mint.New([]byte("0123456789abcdef0123456789abcdef"), "HS256", "")
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, i, "secret 0123456789abcdef0123456789abcdef", "jwt main")
	for range 2 {
		if a := g.get(t, signed(t, k, nil, i.claims())); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_issuers")
	if err != nil {
		t.Fatal(err)
	}
	if app.(*Issuers).Issuers["main"].cache != nil {
		t.Error("verifying costs no more than looking up, yet there is a cache")
	}
}

// BenchmarkCacheHit is the lookup of a remembered token.
func BenchmarkCacheHit(b *testing.B) {
	k := newKey(b, "RS256", "k1")
	now := time.Now()
	c := newCache(32 << 20)
	all := make([]*facts, 1000)
	for n := range all {
		all[n] = parsed(b, k, map[string]any{"sub": fmt.Sprint(n), "scope": "orders:read orders:write", "exp": now.Unix() + 60})
		c.put(all[n], now, maxCached)
	}
	raw := all[500].token.Raw()
	b.ReportAllocs()
	for b.Loop() {
		if c.get(raw, now) == nil {
			b.Fatal("miss")
		}
	}
}

// BenchmarkServeHTTP is what the door adds to a request, with its token
// remembered and without.
func BenchmarkServeHTTP(b *testing.B) {
	i := newIDP(b, "RS256")
	for name, option := range map[string]string{"remembered": "cache 32MiB", "verified": "cache off"} {
		b.Run(name, func(b *testing.B) {
			start(b, i, option, "jwt main {\n require scope orders:read\n forward sub X-User-Id\n}")
			app, err := caddy.ActiveContext().AppIfConfigured("sallyport_issuers")
			if err != nil {
				b.Fatal(err)
			}
			h := &Handler{
				Require: []Requirement{{Scopes: []string{"orders:read"}}},
				Forward: []Forward{{Claim: "sub", Header: "X-User-Id"}},
				Issuers: []string{"main"},
			}
			if err := h.check(); err != nil {
				b.Fatal(err)
			}
			h.issuers, h.maxBytes, h.guarded = []*Issuer{app.(*Issuers).Issuers["main"]}, token.MaxSize, guarded{"X-User-Id"}
			if h.dpop, err = h.DPoP.provision(caddy.Context{}); err != nil {
				b.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "/orders", nil)
			r.Header.Set("Authorization", "Bearer "+i.token(b))
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
			next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
			b.ReportAllocs()
			for b.Loop() {
				if err := h.ServeHTTP(nil, r, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestTokensOfManyIssuersAreKnown has so few guesses that most are wrong: that
// costs time and nothing else.
func TestTokensOfManyIssuersAreKnown(t *testing.T) {
	k, now := newKey(t, "EdDSA", "k1"), time.Now()
	h := &Handler{guesses: make([]atomic.Uint32, 2)}
	for n := range 5 {
		h.issuers = append(h.issuers, &Issuer{name: fmt.Sprint("many-", n), fixed: &ring{}, cache: newCache(1 << 20), count: countersOf(fmt.Sprint("many-", n))})
	}
	var all []*facts
	for n := range 50 {
		f := parsed(t, k, map[string]any{"sub": fmt.Sprint(n), "exp": now.Unix() + 60})
		h.issuers[n%5].cache.put(f, now, maxCached)
		all = append(all, f)
	}
	var asked sync.WaitGroup
	for range 4 {
		asked.Go(func() {
			for range 3 {
				for n, f := range all {
					if got, i := h.known(f.token.Raw(), now); got != f || i != h.issuers[n%5] {
						t.Errorf("token %d is known as %v of %v", n, got, i)
					}
				}
			}
		})
	}
	asked.Wait()
	stranger := parsed(t, k, map[string]any{"sub": "stranger", "exp": now.Unix() + 60})
	if f, i := h.known(stranger.token.Raw(), now); f != nil || i != nil {
		t.Errorf("a token that nobody has seen is known as %v of %v", f, i)
	}
}
