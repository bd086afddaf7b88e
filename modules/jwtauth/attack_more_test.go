package jwtauth

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// The same token spelled otherwise, through places where HTTP itself cleans
// nothing up.
func TestSpellingsOverHTTP(t *testing.T) {
	i := newIDP(t, "ES256")
	g := launch(t, i, "", "jwt main {\n source query\n}")
	good := i.token(t)
	dot := strings.LastIndexByte(good, '.')
	for _, c := range []struct {
		name, token string
		status      int
	}{
		{"as it is", good, 200},
		{"16 space before", " " + good, 401},
		{"16 space after", good + " ", 401},
		{"18 padding", good + "=", 401},
		{"19 line break in the signature", good[:dot+9] + "\n" + good[dot+9:], 401},
		{"19 line break in the claims", good[:dot-9] + "\r\n" + good[dot-9:], 401},
		{"NUL after", good + "\x00", 401},
		{"once more", good + good, 401},
	} {
		a := g.getAt(t, "/orders?access_token="+url.QueryEscape(c.token), "")
		if a.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.status)
		}
	}
}

// 12, 13: the clocks may differ by the leeway and no more.
func TestTimesOverHTTP(t *testing.T) {
	i := newIDP(t, "EdDSA")
	exact, usual := launch(t, i, "leeway 0s", "jwt main"), launch(t, i, "", "jwt main")
	now := func(offset time.Duration) int64 { return time.Now().Add(offset).Unix() }
	for _, c := range []struct {
		name   string
		g      *gateway
		claim  string
		offset time.Duration
		status int
		code   string
	}{
		{name: "expired 5 s ago", g: exact, claim: "exp", offset: -5 * time.Second, status: 401, code: "token-expired"},
		{name: "expired within the leeway", g: usual, claim: "exp", offset: -5 * time.Second, status: 200},
		{name: "expired beyond it", g: usual, claim: "exp", offset: -31 * time.Second, status: 401, code: "token-expired"},
		{name: "not yet", g: exact, claim: "nbf", offset: time.Hour, status: 401, code: "token-invalid"},
		{name: "not yet, within the leeway", g: usual, claim: "nbf", offset: 20 * time.Second, status: 200},
		{name: "not yet, beyond it", g: usual, claim: "nbf", offset: time.Hour, status: 401, code: "token-invalid"},
		{name: "issued in the future, within the leeway", g: usual, claim: "iat", offset: 20 * time.Second, status: 200},
		{name: "issued in the future", g: usual, claim: "iat", offset: time.Hour, status: 401, code: "token-invalid"},
	} {
		if a := c.g.get(t, i.token(t, map[string]any{c.claim: now(c.offset)})); a.status != c.status || a.code != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.status, a.body, c.status, c.code)
		}
	}
}

// 21, and key sets with keys that must not verify: they are left out, and the
// good key beside them serves.
func TestPoisonedKeySetOverHTTP(t *testing.T) {
	i := newIDP(t, "ES256")
	wide, weak := newKey(t, "ES384", "wide"), newKey(t, "RS256", "private")
	i.behave(func(w http.ResponseWriter, _ *http.Request) {
		var set struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal(mint.JWKS(i.keys...), &set); err != nil {
			t.Error(err)
		}
		labelled := wide.JWK()
		labelled["alg"] = "ES256"
		private := weak.JWK()
		private["d"] = "AAAA"
		off := i.keys[0].JWK()
		off["kid"], off["y"] = "off", off["x"]
		set.Keys = append([]map[string]any{
			{"kty": "AKP", "alg": "ML-DSA-65", "kid": "new", "pub": "AAAA"}, labelled, private, off,
			{"kty": "oct", "kid": "oct", "alg": "HS256", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
			{"kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "AAAA"},
			{"kty": 7}, nil,
		}, set.Keys...)
		if err := json.NewEncoder(w).Encode(set); err != nil {
			t.Error(err)
		}
	})
	g := launch(t, i, "", "jwt main")
	if a := g.get(t, i.token(t)); a.status != 200 {
		t.Errorf("the good key of the set: %d %s", a.status, a.body)
	}
	if n := g.metric(t, "sallyport_jwt_keyset_keys"); n != 1 {
		t.Errorf("%v keys serve, want the good one alone", n)
	}
	secret, err := mint.New(make([]byte, 32), "HS256", "oct")
	if err != nil {
		t.Fatal(err)
	}
	for name, tok := range map[string]string{
		"wide curve": signed(t, wide, nil, i.claims()), "published private key": signed(t, weak, nil, i.claims()),
		"published secret": signed(t, secret, nil, i.claims()),
	} {
		if a := g.get(t, tok); a.status != 401 {
			t.Errorf("%s: %d, want 401", name, a.status)
		}
	}
}

// Metadata of another issuer than the one asked for names no keys.
func TestDiscoveryOverHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		says   func(i *idp) string
		status int
	}{
		"its own":       {func(i *idp) string { return i.URL }, 200},
		"another":       {func(*idp) string { return "https://idp.example.com" }, 503},
		"one character": {func(i *idp) string { return i.URL + "/" }, 503},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIDP(t, "EdDSA")
			i.behave(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/.well-known/openid-configuration" {
					_, _ = w.Write(mint.JWKS(i.keys...))
					return
				}
				_ = json.NewEncoder(w).Encode(map[string]string{"issuer": c.says(i), "jwks_uri": i.URL + "/keys"})
			})
			g := launch(t, i, "jwks discover", "jwt main")
			if a := g.get(t, i.token(t)); a.status != c.status {
				t.Errorf("%d %s, want %d", a.status, a.body, c.status)
			}
		})
	}
}

// Trailers of HTTP/2 carry no identity.
func TestSpoofedTrailerOverHTTP2(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", "jwt main {\n forward sub X-User-Id\n}")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	body, end := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/orders", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-User-Id": nil, "X-Other": nil}
	req.Header.Set("Authorization", "Bearer "+i.token(t))
	go func() {
		_, _ = io.WriteString(end, "hello")
		req.Trailer.Set("X-User-Id", "root")
		req.Trailer.Set("X-Other", "kept")
		_ = end.Close()
	}()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Fatalf("%s %s", resp.Proto, resp.Status)
	}
	seen := g.upstreamSaw(t)
	if got := seen.Header.Get("X-User-Id"); got != "ada" {
		t.Errorf("X-User-Id = %q, want ada", got)
	}
	if got := seen.Trailer.Get("X-User-Id"); got != "" {
		t.Errorf("the upstream got the trailer X-User-Id: %q", got)
	}
	if got := seen.Trailer.Get("X-Other"); got != "kept" {
		t.Errorf("another trailer is %q, want it kept", got)
	}
}
