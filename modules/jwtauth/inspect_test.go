package jwtauth

import (
	"regexp"
	"strings"
	"testing"
)

func TestInspect(t *testing.T) {
	i := newIDP(t, "ES256")
	config := adapt(t, `{
		admin off
		issuer main {
			issuer `+i.URL+`
			jwks `+i.URL+`
			audience `+testAudience+`
		}
	}
	http://:8080 {
		jwt /orders/* main {
			require scope orders:read
		}
		jwt /admin/* main {
			require any role admin owner
		}
	}`)
	for _, c := range []struct {
		name, token string
		passes      bool
		want        []string
	}{
		{"good", i.token(t), true, []string{
			"ES256, type jwt, key id \"k1\"", "iss \"" + i.URL, "(in ", `/orders/*`, "passes as issuer main",
			"refused: 403 access-denied (role): token does not say what the route requires: require any role admin owner",
		}},
		{"expired", i.token(t, map[string]any{"exp": 1e9}), false, []string{"refused: 401 token-expired (expired): issuer main", "clocks may differ by 30s", "ago)"}},
		{"audience", i.token(t, map[string]any{"aud": "other"}), false, []string{"token-invalid (audience)", "accepted: " + testAudience}},
		{"issuer", i.token(t, map[string]any{"iss": "x"}), false, []string{"(issuer)", "accepted: \"" + i.URL}},
		{"key", signed(t, newKey(t, "ES256", "other"), nil, i.claims()), false, []string{"(key)", `its keys: "k1"`}},
		{"signature", signed(t, newKey(t, "ES256", "k1"), nil, i.claims()), false, []string{"(signature)"}},
		{"not a token", "hello", false, []string{"5 bytes, not readable", "(segments)"}},
		{"bound", i.token(t, map[string]any{"cnf": map[string]any{"jkt": "x"}}), true, []string{"with a DPoP proof"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			passes, err := inspectToken(&out, config, c.token)
			if err != nil || passes != c.passes {
				t.Fatalf("passes %t, %v\n%s", passes, err, out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
			for part := range strings.SplitSeq(c.token, ".") {
				if len(part) > 12 && strings.Contains(out.String(), part[:12]) {
					t.Errorf("it prints a part of the token:\n%s", out.String())
				}
			}
			if regexp.MustCompile(`\bada\b`).MatchString(out.String()) {
				t.Errorf("it prints the caller:\n%s", out.String())
			}
		})
	}
	if _, err := inspectToken(new(strings.Builder), []byte(`{"apps":{}}`), "x"); err == nil {
		t.Error("a configuration without jwt is inspected")
	}
}
