package jwtauth

import (
	"strings"
	"testing"
)

func TestValidTokenPasses(t *testing.T) {
	i := newIDP(t, "ES256")
	g := start(t, i, "", "jwt main {\n require scope orders:read\n forward sub X-User-Id\n}")
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
