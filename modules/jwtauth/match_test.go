package jwtauth

import (
	"net/http"
	"strings"
	"testing"
)

// Routes after `jwt` may be chosen by what the token says.
func TestClaimsChooseRoutes(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := new(gateway)
	matchers := []struct{ name, definition string }{
		{"there", "jwt_claim tenant"},
		{"value", "jwt_claim tenant acme globex"},
		{"in-array", "jwt_claim /realm_access/roles admin"},
		{"namespaced", "jwt_claim https://example.com/level 7"},
		{"not-there", "not jwt_claim tenant"},
		{"cel-holds", "expression jwt_claim('/realm_access/roles', 'admin', 'auditor')"},
		{"cel-value", "expression jwt_claim('https://example.com/level') > 2"},
		{"cel-text", "expression jwt_claim('tenant') == 'acme' && method('GET')"},
		{"cel-in", "expression `'admin' in jwt_claim('/realm_access/roles')`"},
		{"cel-null", "expression jwt_claim('tenant') == null"},
	}
	g.run(t, func() (string, string) {
		site := "route {\n jwt main {\n optional\n}\n"
		for _, m := range matchers {
			site += "@" + m.name + " " + m.definition + "\nheader @" + m.name + " +X-Fits " + m.name + "\n"
		}
		return i.global(""), site + "respond ok\n}"
	})
	for _, c := range []struct {
		name   string
		claims map[string]any
		fits   string
	}{
		{"all", map[string]any{
			"tenant": "acme", "https://example.com/level": 7, "realm_access": map[string]any{"roles": []string{"user", "admin"}},
		}, "there value in-array namespaced cel-holds cel-value cel-text cel-in"},
		{"others", map[string]any{
			"tenant": "acme2", "https://example.com/level": 1, "realm_access": map[string]any{"roles": []string{"admins"}},
		}, "there"},
	} {
		a := g.get(t, i.token(t, c.claims))
		if got := strings.Join(a.header.Values("X-Fits"), " "); a.status != 200 || got != c.fits {
			t.Errorf("%s: %d, fits %q, want %q", c.name, a.status, got, c.fits)
		}
	}
}

// Where a claim is not there, nor anybody known, the matchers do not fit, and
// nothing fails.
func TestMatchersWithoutClaims(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := new(gateway)
	g.run(t, func() (string, string) {
		return i.global(""), `@early jwt_claim sub
		@any jwt_claim sub
		@admin expression jwt_claim('roles', 'admin')
		@none expression jwt_claim('sub') == null
		route {
			header @early X-Early yes
			jwt main {
				optional
			}
			header @any X-Any yes
			header @admin X-Admin yes
			header @none X-None yes
			respond ok
		}`
	})
	for _, c := range []struct{ name, token, early, any, admin, none string }{
		{"anonymous", "", "", "", "", "yes"},
		{"known", i.token(t), "", "yes", "", ""},
	} {
		h := http.Header{}
		if a := g.get(t, c.token); a.status == 200 {
			h = a.header
		}
		if h.Get("X-Early") != c.early || h.Get("X-Any") != c.any || h.Get("X-Admin") != c.admin || h.Get("X-None") != c.none {
			t.Errorf("%s: %v, want %+v", c.name, h, c)
		}
	}
}
