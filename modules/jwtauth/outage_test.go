package jwtauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// soak says that the long forms of the tests run.
func soak() bool { return os.Getenv("SALLYPORT_SOAK") != "" }

// faults are the ways in which an issuer fails.
func faults(t *testing.T) map[string]http.HandlerFunc {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	key := newKey(t, "EdDSA", "x")
	elsewhere := newIDP(t, "EdDSA")
	return map[string]http.HandlerFunc{
		"500":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"empty": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"null":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":null}`)) },
		"garbage": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`<html>down for maintenance</html>`))
		},
		"huge": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 8<<20)) },
		"many keys": func(w http.ResponseWriter, _ *http.Request) {
			many := make([]*mint.Key, 2000)
			for n := range many {
				many[n] = key
			}
			_, _ = w.Write(mint.JWKS(many...))
		},
		"redirecting": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"hung": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
	}
}

// An issuer that fails after it has given its keys fails nobody else: neither
// callers whose key is known nor, for longer than it may, callers whose is not.
func TestIssuerFails(t *testing.T) {
	for name, fault := range faults(t) {
		t.Run(name, func(t *testing.T) {
			i := newIDP(t, "ES256")
			g := start(t, i, "cache off", "jwt main")
			tok := i.token(t)
			i.behave(fault)
			unknown := signed(t, newKey(t, "ES256", "stranger"), nil, i.claims())
			var wg sync.WaitGroup
			began := time.Now()
			for range 8 {
				wg.Go(func() {
					asked := time.Now()
					if a := g.get(t, unknown); a.status != 401 {
						t.Errorf("unknown key: %d, want 401", a.status)
					}
					if took := time.Since(asked); took > 30*time.Second {
						t.Errorf("unknown key: answered after %s; it waits for a fetch for 2 s, and not for ever", took)
					}
				})
			}
			requests := 0
			for requests < 200 || soak() && time.Since(began) < time.Minute {
				if a := g.get(t, tok); a.status != 200 {
					t.Fatalf("known key: %d %s", a.status, a.body)
				}
				requests++
			}
			t.Logf("%d requests, none failed", requests)
			wg.Wait()
		})
	}
}

func TestIssuerIsDownAtTheStart(t *testing.T) {
	for name, fault := range faults(t) {
		t.Run(name, func(t *testing.T) {
			i := newIDP(t, "EdDSA")
			i.behave(fault)
			g := start(t, i, "", "jwt main")
			a := g.get(t, i.token(t))
			if a.status != 503 || a.code != "keys-unavailable" || a.header.Get("Retry-After") == "" {
				t.Fatalf("%d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
			}
			if a := g.get(t, "nonsense"); a.status != 401 {
				t.Errorf("a token that no key could verify: %d, want 401", a.status)
			}
			if err := readiness(t); err == nil || !strings.Contains(err.Error(), "keys of issuer main are not to be had") {
				t.Errorf("readiness: %v", err)
			}
		})
	}
}

func readiness(t *testing.T) error {
	t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_issuers")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*Issuers).Ready(t.Context())
}

func TestStartupRequireFailsWithoutKeys(t *testing.T) {
	i := newIDP(t, "EdDSA")
	i.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	config := adapt(t, `{
		admin off
		persist_config off
		storage file_system `+t.TempDir()+`
		issuer main {
			issuer `+i.URL+`
			jwks `+i.URL+`
			audience a
			startup require 100ms
		}
	}`)
	err := caddy.Load(config, true)
	if err == nil || !strings.Contains(err.Error(), "no keys after 100ms") || !strings.Contains(err.Error(), "500") {
		t.Errorf("load: %v", err)
	}
	if n := len(running.list); n != 0 {
		t.Errorf("%d issuers of the failed start still run", n)
	}
}

// A gateway that restarts while the issuer is down verifies with the keys it
// had.
func TestKeysOutliveARestart(t *testing.T) {
	i := newIDP(t, "EdDSA")
	dir := t.TempDir()
	config := func() []byte {
		return adapt(t, `{
			admin off
			persist_config off
			storage file_system `+dir+`
			issuer main {
				issuer `+i.URL+`
				jwks `+i.URL+`
				audience `+testAudience+`
			}
		}
		http://`+freeAddress(t)+` {
			jwt main
			respond ok
		}`)
	}
	first := config()
	if err := caddy.Load(first, true); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "sallyport", "jwks", "*.json")
	waitFor(t, "the set to be kept", func() bool { found, _ := filepath.Glob(kept); return len(found) == 1 })
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	i.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	g := new(gateway)
	g.load(t, i, "", "jwt main\nrespond ok", "127.0.0.1:1") // another storage: no keys
	if a := g.get(t, i.token(t)); a.status != 503 {
		t.Errorf("without kept keys: %d, want 503", a.status)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	second := config()
	if err := caddy.Load(second, true); err != nil {
		t.Fatal(err)
	}
	g.url = urlOf(t, second)
	if a := g.get(t, i.token(t)); a.status != 200 {
		t.Errorf("with kept keys: %d %s, want 200", a.status, a.body)
	}
	waitFor(t, "readiness to be degraded", func() bool { err := readiness(t); return err != nil && isDegraded(err) })
}

func isDegraded(err error) bool {
	d, ok := err.(interface{ Degraded() bool })
	return ok && d.Degraded()
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// A flood of unknown key ids costs the issuer nothing to speak of, and callers
// whose key is known nothing at all.
func TestFloodOfUnknownKeyIDs(t *testing.T) {
	long := 3 * time.Second
	if soak() {
		long = time.Minute
	}
	i := newIDP(t, "ES256")
	g := start(t, i, "", "jwt main")
	tok := i.token(t)
	before := i.count()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var sent atomic.Int64
	for range 4 {
		wg.Go(func() {
			_, rest, _ := strings.Cut(tok, ".")
			for !stop.Load() {
				header := `{"alg":"ES256","kid":"` + rand.Text() + `"}`
				if a := g.get(t, base64.RawURLEncoding.EncodeToString([]byte(header))+"."+rest); a.status != 401 {
					t.Errorf("unknown key: %d", a.status)
					return
				}
				sent.Add(1)
			}
		})
	}
	began := time.Now()
	for time.Since(began) < long {
		if a := g.get(t, tok); a.status != 200 {
			t.Errorf("known key: %d", a.status)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	fetched := i.count() - before
	took := time.Since(began) // longer than asked for where the machine is busy
	t.Logf("%d tokens under unknown keys in %s, %d fetches", sent.Load(), took, fetched)
	if most := int(took/(10*time.Second)) + 1; fetched > most {
		t.Errorf("%d fetches, want at most %d", fetched, most)
	}
}

// Reloads leave nothing behind: no goroutine, no source, no listener.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	reloads := 20
	if soak() {
		reloads = 1000
	}
	i := newIDP(t, "EdDSA")
	dir, address := t.TempDir(), freeAddress(t)
	load := func(n int) {
		leeway := []string{"10s", "20s"}[n%2] // Caddy skips what is unchanged
		config := adapt(t, `{
			admin off
			persist_config off
			storage file_system `+dir+`
			grace_period 1s
			issuer main {
				issuer `+i.URL+`
				jwks `+i.URL+`
				audience `+testAudience+`
				leeway `+leeway+`
			}
		}
		http://`+address+` {
			jwt main
			respond ok
		}`)
		if err := caddy.Load(config, true); err != nil {
			t.Fatal(err)
		}
	}
	g := &gateway{url: "http://" + address}
	tok := i.token(t)
	for n := range 5 {
		load(n)
	}
	fetched := i.count()
	http.DefaultClient.CloseIdleConnections()
	baseline := settledGoroutines()
	for n := range reloads {
		load(n + 5)
		// The listener that the reload closes may take the connection along.
		waitFor(t, "an answer", func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+tok)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Fatalf("reload %d: %d", n, resp.StatusCode)
			}
			return true
		})
		http.DefaultClient.CloseIdleConnections()
	}
	waitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= baseline+3 })
	if n := i.count() - fetched; n > 1 {
		t.Errorf("%d fetches in %d reloads: the key set does not outlive them", n, reloads)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(running.list); n != 0 {
		t.Errorf("%d issuers still run", n)
	}
	if refs, held := sources.References("url " + i.URL + " ca= certificate= private=false insecure=false"); held {
		t.Errorf("the source is still held %d times", refs)
	}
}

func settledGoroutines() int {
	least := runtime.NumGoroutine()
	for range 200 {
		runtime.Gosched()
		least = min(least, runtime.NumGoroutine())
	}
	return least
}

func urlOf(t *testing.T, config []byte) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(config), `"listen":["`)
	port, _, closed := strings.Cut(rest, `"`)
	if !ok || !closed {
		t.Fatalf("no listener in %s", config)
	}
	return "http://127.0.0.1" + port
}
