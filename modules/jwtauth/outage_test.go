package jwtauth

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// soak says that the long forms of the tests run.
func soak() bool { return os.Getenv("SALLYPORT_SOAK") != "" }

// faults are the ways in which an issuer fails. The issuer that rotates fails
// nobody: it has new keys each time, and the old one.
func faults(t *testing.T) map[string]http.HandlerFunc {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	key := newKey(t, "EdDSA", "x")
	elsewhere := newIDP(t, "EdDSA")
	wait := func(r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return false
	}
	return map[string]http.HandlerFunc{
		"500":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"empty":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"null":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":null}`)) },
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"garbage": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`<html>down for maintenance</html>`))
		},
		"huge": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 8<<20)) },
		"many": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(mint.JWKS(slices.Repeat([]*mint.Key{key}, 2000)...))
		},
		"redirecting": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"breaking":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hung":        func(_ http.ResponseWriter, r *http.Request) { wait(r) },
		"slow": func(w http.ResponseWriter, r *http.Request) { // a byte, and never the rest
			_, _ = w.Write([]byte("{"))
			_ = http.NewResponseController(w).Flush()
			wait(r)
		},
	}
}

// sites are one issuer for each fault, and a route for its tokens.
func sites(idps map[string]*idp) (global, site string) {
	for _, name := range slices.Sorted(maps.Keys(idps)) {
		global += fmt.Sprintf("issuer %s {\n issuer %s\n jwks %s\n audience %s\n cache off\n}\n", name, idps[name].URL, idps[name].URL, testAudience)
		site += fmt.Sprintf("handle /%s {\n jwt %s\n respond ok\n}\n", name, name)
	}
	return global, site
}

// Issuers that fail after they have given their keys fail nobody else: neither
// callers whose key is known nor, for longer than it may, callers whose is not.
// The long form is an outage of ten minutes, in which the sets go stale.
func TestIssuersFail(t *testing.T) {
	long := time.Duration(0)
	if soak() {
		long = 10 * time.Minute
		t.Parallel()
	}
	idps := make(map[string]*idp)
	ways := faults(t)
	for name := range ways {
		idps[name] = newIDP(t, "ES256")
		idps[name].header = "max-age=60" // the shortest lifetime there is
	}
	idps["rotating"] = newIDP(t, "ES256")
	g := new(gateway)
	g.run(t, func() (string, string) { return sites(idps) })
	for name, i := range idps {
		if a := g.getAt(t, "/"+name, i.token(t)); a.status != 200 {
			t.Fatalf("%s, before: %d %s", name, a.status, a.body)
		}
	}
	for name, i := range idps {
		i.behave(ways[name])
	}
	keep := idps["rotating"].keys[0]
	idps["rotating"].behave(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(mint.JWKS(keep, newKey(t, "ES256", fmt.Sprint(time.Now().UnixNano()))))
	})
	began := time.Now()
	var wg sync.WaitGroup
	for name, i := range idps {
		wg.Go(func() { endure(t, g, name, i, began.Add(long)) })
	}
	wg.Wait()
	for name, i := range idps {
		if name != "rotating" {
			waitFor(t, name+": a fetch to fail", func() bool {
				return g.metric(t, "sallyport_jwt_keyset_fetches_total", `issuer="`+name+`"`, `result="failed"`) > 0
			})
		}
		if most := int(time.Since(began)/(10*time.Second)) + 2; i.count() > most {
			t.Errorf("%s: %d fetches, want at most %d", name, i.count(), most)
		}
	}
	if ready := g.ask(t, g.url+"/health/ready"); soak() && !strings.Contains(ready, "old") {
		t.Errorf("readiness after ten minutes without keys: %s", ready)
	}
}

// endure asks with a token under a known key until the end, and at least until
// the fault has met a fetch; now and then with one under an unknown key.
func endure(t *testing.T, g *gateway, name string, i *idp, end time.Time) {
	unknown := signed(t, newKey(t, "ES256", "stranger"), nil, i.claims())
	var wg sync.WaitGroup
	requests, fetched := 0, i.count()
	for ; i.count() == fetched || requests < 50 || time.Now().Before(end); requests++ {
		if requests%1000 == 0 {
			wg.Go(func() {
				asked := time.Now()
				if a := g.getAt(t, "/"+name, unknown); a.status != 401 {
					t.Errorf("%s, unknown key: %d %s, want 401", name, a.status, a.body)
				}
				if took := time.Since(asked); took > 30*time.Second {
					t.Errorf("%s, unknown key: answered after %s; it waits for a fetch for 2 s, and not for ever", name, took)
				}
			})
		}
		tok := i.token(t)
		if a := g.getAt(t, "/"+name, tok); a.status != 200 {
			t.Errorf("%s, request %d, known key: %d %s", name, requests, a.status, a.body)
			break
		}
		select { // leave the machine to others too
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	wg.Wait()
	t.Logf("%s: %d requests", name, requests)
}

func TestIssuersAreDownAtTheStart(t *testing.T) {
	idps := make(map[string]*idp)
	for name, fault := range faults(t) {
		idps[name] = newIDP(t, "EdDSA")
		idps[name].behave(fault)
	}
	g := new(gateway)
	g.run(t, func() (string, string) { return sites(idps) })
	for name, i := range idps {
		t.Run(name, func(t *testing.T) {
			a := g.getAt(t, "/"+name, i.token(t))
			if a.status != 503 || a.code != "keys-unavailable" || a.header.Get("Retry-After") == "" {
				t.Fatalf("%d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
			}
			if a := g.getAt(t, "/"+name, "nonsense"); a.status != 401 {
				t.Errorf("a token that no key could verify: %d, want 401", a.status)
			}
		})
	}
	if ready := g.ask(t, g.url+"/health/ready"); !strings.Contains(ready, "are not to be had") {
		t.Errorf("readiness: %s", ready)
	}
}

func TestStartupRequireFailsWithoutKeys(t *testing.T) {
	i := newIDP(t, "EdDSA")
	i.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	g := new(gateway)
	err := g.tryRun(t, func() (string, string) {
		return fmt.Sprintf("issuer main {\n issuer %s\n jwks %s\n audience a\n startup require 100ms\n}", i.URL, i.URL), "jwt main\nrespond ok"
	})
	if err == nil || !strings.Contains(err.Error(), "no keys after 100ms") || !strings.Contains(err.Error(), "500") {
		t.Errorf("start: %v", err)
	}
}

// A gateway that restarts while the issuer is down verifies with the keys it
// had.
func TestKeysOutliveARestart(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g, strange := launch(t, i, "", "jwt main"), new(gateway)
	if a := g.get(t, i.token(t)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	waitFor(t, "the set to be kept", func() bool { return len(g.kept(t)) == 1 })
	i.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	strange.run(t, g.text) // another storage: no keys
	if a := strange.get(t, i.token(t)); a.status != 503 {
		t.Errorf("without kept keys: %d, want 503", a.status)
	}
	g.restart(t)
	if a := g.get(t, i.token(t)); a.status != 200 {
		t.Errorf("with kept keys: %d %s, want 200", a.status, a.body)
	}
	waitFor(t, "readiness to tell that they are old", func() bool {
		return strings.Contains(g.ask(t, g.url+"/health/ready"), "keys of issuer main are")
	})
}
