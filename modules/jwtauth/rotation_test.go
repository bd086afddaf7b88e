package jwtauth

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestRotation(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := start(t, i, "", "jwt main")
	old := i.token(t)
	if a := g.get(t, old); a.status != 200 {
		t.Fatal(a)
	}
	aged(t, time.Minute) // as if the last fetch were a minute old
	next := newKey(t, "EdDSA", "k2")
	i.rotate(next)
	// The one request waits for the fetch, and by its own bound of 2 s not for long.
	if a := g.get(t, signed(t, next, nil, i.claims())); a.status != 200 {
		t.Errorf("the first token under the new key: %d, want 200", a.status)
	}
	if a := g.get(t, old); a.status != 401 {
		t.Errorf("a remembered token of the removed key: %d, want 401", a.status)
	}

	// The same id, another key.
	aged(t, time.Minute)
	same := newKey(t, "EdDSA", "k2")
	i.rotate(same)
	if a := g.get(t, signed(t, same, nil, i.claims())); a.status != 200 {
		t.Errorf("another key under the same id: %d", a.status)
	}
}

// aged makes the issuer's key set older than it is.
func aged(t *testing.T, d time.Duration) {
	t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_issuers")
	if err != nil {
		t.Fatal(err)
	}
	app.(*Issuers).Issuers["main"].source.Age(d)
}

func TestMaxStaleFailsClosed(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := start(t, i, "max_stale 1h", "jwt main")
	tok := i.token(t)
	if a := g.get(t, tok); a.status != 200 {
		t.Fatal(a)
	}
	i.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	aged(t, 59*time.Minute)
	if a := g.get(t, tok); a.status != 200 {
		t.Errorf("keys of 59 minutes: %d", a.status)
	}
	aged(t, 2*time.Minute)
	if a := g.get(t, tok); a.status != 503 {
		t.Errorf("keys of 61 minutes, token remembered: %d, want 503", a.status)
	}
	if err := readiness(t); err == nil || isDegraded(err) {
		t.Errorf("readiness: %v, want not ready", err)
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

func isDegraded(err error) bool {
	d, ok := err.(interface{ Degraded() bool })
	return ok && d.Degraded()
}
