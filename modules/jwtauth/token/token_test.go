package token_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

const (
	issuer   = "https://idp.example.com/"
	audience = "orders-api"
)

var now = time.Unix(1_800_000_000, 0)

// accept does what the gateway does with a token.
func accept(raw string, rules *token.Rules, ring *token.Ring) error {
	t, err := token.Parse(raw, token.MaxSize)
	if err != nil {
		return err
	}
	if err := rules.Check(t, now); err != nil {
		return err
	}
	_, err = ring.Verify(t)
	return err
}

func rules(t testing.TB, algorithms ...string) *token.Rules {
	t.Helper()
	if len(algorithms) == 0 {
		algorithms = token.DefaultAlgorithms
	}
	set, err := token.ParseAlgorithms(algorithms)
	if err != nil {
		t.Fatal(err)
	}
	return &token.Rules{
		Issuer: issuer, Audiences: []string{audience}, Algorithms: set,
		Types: []string{"", "jwt", "at+jwt"}, Leeway: 30 * time.Second,
	}
}

func key(t testing.TB, alg, kid string) *mint.Key {
	t.Helper()
	k, err := mint.Generate(alg, kid)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ringOf(t testing.TB, keys ...*mint.Key) *token.Ring {
	t.Helper()
	var list []*token.Key
	for _, k := range keys {
		tk, err := token.NewKey(k.ID, token.ParseAlgorithm(k.Alg), k.Public())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tk)
	}
	return token.NewRing(list...)
}

func claims(more ...map[string]any) map[string]any {
	c := map[string]any{
		"iss": issuer, "aud": audience, "sub": "ada", "scope": "orders:read",
		"iat": now.Unix() - 10, "exp": now.Unix() + 300,
	}
	for _, m := range more {
		maps.Copy(c, m)
	}
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

func sign(t testing.TB, k *mint.Key, header, claims map[string]any) string {
	t.Helper()
	raw, err := k.Sign(header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func signRaw(t testing.TB, k *mint.Key, header, claims string) string {
	t.Helper()
	raw, err := k.SignRaw([]byte(header), []byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestEveryAlgorithmVerifies(t *testing.T) {
	for _, alg := range mint.Algorithms {
		t.Run(alg, func(t *testing.T) {
			k := key(t, alg, "k1")
			public := any(k.Public())
			if strings.HasPrefix(alg, "HS") {
				secret := []byte(strings.Repeat("s", 64))
				public = secret
				var err error
				if k, err = mint.New(secret, alg, "k1"); err != nil {
					t.Fatal(err)
				}
			}
			tk, err := token.NewKey("k1", token.ParseAlgorithm(alg), public)
			if err != nil {
				t.Fatal(err)
			}
			ring := token.NewRing(tk)
			for range 50 { // ECDSA numbers vary in length
				raw := sign(t, k, nil, claims())
				if err := accept(raw, rules(t, alg), ring); err != nil {
					t.Fatalf("%s refused: %v", raw, err)
				}
				cut := strings.LastIndexByte(raw, '.') + 1
				sig, _ := base64.RawURLEncoding.DecodeString(raw[cut:])
				sig[len(sig)/2] ^= 1
				if accept(raw[:cut]+base64.RawURLEncoding.EncodeToString(sig), rules(t, alg), ring) != token.ErrSignature {
					t.Fatalf("%s with another signature is accepted", raw)
				}
			}
		})
	}
}

// The table of attacks on the token itself. Each is refused, and for the
// reason that names it.
func TestAttacks(t *testing.T) {
	rsa, ec, other := key(t, "RS256", "r1"), key(t, "ES256", "e1"), key(t, "RS256", "r1")
	ring := ringOf(t, rsa, ec)
	enc := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	good := sign(t, rsa, nil, claims())
	parts := strings.Split(good, ".")
	body := `{"iss":"` + issuer + `","aud":"` + audience + `","exp":1800000300`
	head := `{"alg":"RS256","kid":"r1"}`
	pemSecret, err := rsa.PEM()
	if err != nil {
		t.Fatal(err)
	}
	hs, err := mint.New(pemSecret, "HS256", "r1")
	if err != nil {
		t.Fatal(err)
	}
	with := func(m map[string]any) string { return sign(t, rsa, m, claims()) }
	claim := func(name string, v any) string { return sign(t, rsa, nil, claims(map[string]any{name: v})) }

	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"alg none", enc(`{"alg":"none"}`) + "." + parts[1] + ".", token.ErrSegments},
		{"alg none with signature", enc(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2], token.ErrAlgorithm},
		{"alg NoNe", enc(`{"alg":"NoNe"}`) + "." + parts[1] + "." + parts[2], token.ErrAlgorithm},
		{"alg missing", signRaw(t, rsa, `{"kid":"r1"}`, body+"}"), token.ErrAlgorithm},
		{"alg number", signRaw(t, rsa, `{"alg":1,"kid":"r1"}`, body+"}"), token.ErrAlgorithm},
		{"empty signature", parts[0] + "." + parts[1] + ".", token.ErrSegments},
		{"HMAC with the public key", sign(t, hs, nil, claims()), token.ErrAlgorithm},
		{"algorithm of another key", with(map[string]any{"alg": "PS256"}), token.ErrAlgorithm},
		{"crit unknown", with(map[string]any{"crit": []string{"x"}, "x": 1}), token.ErrCritical},
		{"crit empty", with(map[string]any{"crit": []string{}}), token.ErrCritical},
		{"crit names alg", with(map[string]any{"crit": []string{"alg"}}), token.ErrCritical},
		{"b64 false", with(map[string]any{"crit": []string{"b64"}, "b64": false}), token.ErrCritical},
		{"zip", with(map[string]any{"zip": "DEF"}), token.ErrCritical},
		{"jwk in header", with(map[string]any{"jwk": rsa.JWK()}), token.ErrHeaderKey},
		{"jku in header", with(map[string]any{"jku": "http://127.0.0.1:1/"}), token.ErrHeaderKey},
		{"x5u in header", with(map[string]any{"x5u": "http://127.0.0.1:1/"}), token.ErrHeaderKey},
		{"duplicate alg", signRaw(t, rsa, `{"alg":"none","alg":"RS256","kid":"r1"}`, body+"}"), token.ErrDuplicate},
		{"duplicate alg, escaped", signRaw(t, rsa, `{"alg":"RS256","\u0061lg":"RS256","kid":"r1"}`, body+"}"), token.ErrDuplicate},
		{"duplicate sub", signRaw(t, rsa, head, body+`,"sub":"a","sub":"b"}`), token.ErrDuplicate},
		{"duplicate exp", signRaw(t, rsa, head, body+`,"exp":1}`), token.ErrDuplicate},
		{"duplicate deep inside", signRaw(t, rsa, head, body+`,"a":[{"b":{"c":1,"c":2}}]}`), token.ErrDuplicate},
		{"EXP beside a past exp", sign(t, rsa, nil, claims(map[string]any{"EXP": now.Unix() + 300, "exp": now.Unix() - 300})), token.ErrExpired},
		{"no exp", claim("exp", nil), token.ErrNoExpiry},
		{"exp string", claim("exp", "1800000300"), token.ErrClaimType},
		{"exp null", signRaw(t, rsa, head, `{"iss":"`+issuer+`","exp":null}`), token.ErrClaimType},
		{"exp negative", claim("exp", -1), token.ErrClaimType},
		{"exp 1e300", signRaw(t, rsa, head, `{"iss":"`+issuer+`","exp":1e300}`), token.ErrClaimType},
		{"exp 2^63-1", signRaw(t, rsa, head, `{"iss":"`+issuer+`","exp":9223372036854775807}`), token.ErrClaimType},
		{"exp beyond leeway", claim("exp", now.Unix()-30), token.ErrExpired},
		{"nbf in the future", claim("nbf", now.Unix()+31), token.ErrNotYet},
		{"iat in the future", claim("iat", now.Unix()+31), token.ErrIssuedLater},
		{"aud missing", claim("aud", nil), token.ErrAudience},
		{"aud of another", claim("aud", "other"), token.ErrAudience},
		{"aud mixed types", claim("aud", []any{audience, 1}), token.ErrClaimType},
		{"aud empty", claim("aud", []any{}), token.ErrClaimType},
		{"aud object", claim("aud", map[string]any{audience: 1}), token.ErrClaimType},
		{"iss of another", claim("iss", "https://idp.example.com"), token.ErrIssuer},
		{"iss missing", claim("iss", nil), token.ErrIssuer},
		{"sub number", claim("sub", 7), token.ErrClaimType},
		{"JSON flattened", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, token.ErrJSONForm},
		{"JSON general", `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`, token.ErrJSONForm},
		{"space before", " " + good, token.ErrCharset},
		{"space after", good + " ", token.ErrCharset},
		{"newline in signature", good[:len(good)-4] + "\n" + good[len(good)-4:], token.ErrCharset},
		{"newline in claims", parts[0] + "." + parts[1][:8] + "\r\n" + parts[1][8:] + "." + parts[2], token.ErrCharset},
		{"padding", good + "==", token.ErrCharset},
		{"standard alphabet", parts[0] + "." + parts[1] + "." + "+/" + parts[2][2:], token.ErrCharset},
		{"trailing bits", good[:len(good)-1] + string(nextLetter(good[len(good)-1])), token.ErrBase64},
		{"four segments", good + ".AAAA", token.ErrSegments},
		{"five segments", "a.b.c.d.e", token.ErrEncrypted},
		{"a megabyte of dots", strings.Repeat(".", 1<<20), token.ErrSize},
		{"dots", strings.Repeat(".", 1<<10), token.ErrSegments},
		{"two objects", signRaw(t, rsa, head, body+"}{}"), token.ErrJSON},
		{"trailing garbage", signRaw(t, rsa, head, body+"}x"), token.ErrJSON},
		{"claims array", signRaw(t, rsa, head, `[1]`), token.ErrJSON},
		{"invalid UTF-8", signRaw(t, rsa, head, body+",\"x\":\"\xff\"}"), token.ErrJSON},
		{"lone surrogate", signRaw(t, rsa, head, body+`,"x":"\ud800"}`), token.ErrJSON},
		{"raw NUL", signRaw(t, rsa, head, body+",\"x\":\"\x00\"}"), token.ErrJSON},
		{"depth 17", signRaw(t, rsa, head, body+`,"x":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)+"}"), token.ErrLimits},
		{"depth 6000", signRaw(t, rsa, head, body+`,"x":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+"}"), token.ErrLimits},
		{"65 claims", signRaw(t, rsa, head, body+many(62)+"}"), token.ErrLimits},
		{"typ logout+jwt", with(map[string]any{"typ": "logout+jwt"}), token.ErrType},
		{"typ dpop+jwt", with(map[string]any{"typ": "application/DPOP+jwt"}), token.ErrType},
		{"nested", with(map[string]any{"cty": "JWT"}), token.ErrNested},
		{"kid of 10 kB", with(map[string]any{"kid": strings.Repeat("k", 10<<10)}), token.ErrSize},
		{"kid of 257 bytes", with(map[string]any{"kid": strings.Repeat("k", 257)}), token.ErrKeyID},
		{"kid with NUL", with(map[string]any{"kid": "r1\x00"}), token.ErrKeyID},
		{"kid path traversal", with(map[string]any{"kid": "../../etc/passwd"}), token.ErrUnknownKey},
		{"kid of a key of another kind", with(map[string]any{"kid": "e1"}), token.ErrAlgorithm},
		{"same kid, other key", sign(t, other, nil, claims()), token.ErrSignature},
		{"claims of another token", parts[0] + "." + strings.Split(claim("sub", "eve"), ".")[1] + "." + parts[2], token.ErrSignature},
		{"empty", "", token.ErrSegments},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := accept(c.raw, rules(t), ring); got != c.want {
				t.Errorf("accept %.200s\ngot  %v\nwant %v", c.raw, got, c.want)
			}
		})
	}
	if err := accept(good, rules(t), ring); err != nil {
		t.Errorf("the token that the attacks start from is refused: %v", err)
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"c%d":0`, i)
	}
	return b.String()
}

// nextLetter changes only the bits of the last letter that carry no data: a
// 256-byte signature ends in a letter with four of them.
func nextLetter(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)|1]
}

func TestTimesAtTheEdge(t *testing.T) {
	k := key(t, "EdDSA", "k1")
	ring := ringOf(t, k)
	at := now.Unix()
	for _, c := range []struct {
		name   string
		claims map[string]any
		change func(*token.Rules)
		want   error
	}{
		{"exp one second inside leeway", map[string]any{"exp": at - 29}, nil, nil},
		{"exp at leeway", map[string]any{"exp": at - 30}, nil, token.ErrExpired},
		{"exp one second beyond", map[string]any{"exp": at - 31}, nil, token.ErrExpired},
		{"exp with a fraction", map[string]any{"exp": float64(at) - 29.5}, nil, nil},
		{"nbf one second inside", map[string]any{"nbf": at + 29}, nil, nil},
		{"nbf at leeway", map[string]any{"nbf": at + 30}, nil, nil},
		{"nbf one second beyond", map[string]any{"nbf": at + 31}, nil, token.ErrNotYet},
		{"iat at leeway", map[string]any{"iat": at + 30}, nil, nil},
		{"iat beyond", map[string]any{"iat": at + 31}, nil, token.ErrIssuedLater},
		{"no exp where allowed", map[string]any{"exp": nil}, func(r *token.Rules) { r.NoExpiry = true }, nil},
		{"young enough", map[string]any{"iat": at - 60}, func(r *token.Rules) { r.MaxAge = time.Minute }, nil},
		{"too old", map[string]any{"iat": at - 91}, func(r *token.Rules) { r.MaxAge = time.Minute }, token.ErrTooOld},
		{"no iat for max_age", map[string]any{"iat": nil}, func(r *token.Rules) { r.MaxAge = time.Minute }, token.ErrMissingClaim},
		{"lives too long", map[string]any{"iat": at, "exp": at + 3601}, func(r *token.Rules) { r.MaxLifetime = time.Hour }, token.ErrLifetime},
		{"lives long enough", map[string]any{"iat": at, "exp": at + 3600}, func(r *token.Rules) { r.MaxLifetime = time.Hour }, nil},
		{"all audiences", map[string]any{"aud": []string{"b", audience}}, func(r *token.Rules) {
			r.Audiences, r.AllAudiences = []string{audience, "b"}, true
		}, nil},
		{"not all audiences", nil, func(r *token.Rules) { r.Audiences, r.AllAudiences = []string{audience, "b"}, true }, token.ErrAudience},
		{"one of the audiences", nil, func(r *token.Rules) { r.Audiences = []string{"b", audience} }, nil},
		{"required claim", nil, func(r *token.Rules) { r.Required = []token.Path{{"client_id"}} }, token.ErrMissingClaim},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rules(t)
			if c.change != nil {
				c.change(r)
			}
			if got := accept(sign(t, k, nil, claims(c.claims)), r, ring); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTokenWithoutKeyIDNeedsTheOnlyKey(t *testing.T) {
	a, b, c := key(t, "ES256", "a"), key(t, "ES256", "b"), key(t, "EdDSA", "c")
	raw := sign(t, a, map[string]any{"kid": nil}, claims())
	if err := accept(raw, rules(t), ringOf(t, a, c)); err != nil {
		t.Errorf("one key of the algorithm: %v", err)
	}
	if err := accept(raw, rules(t), ringOf(t, a, b)); err != token.ErrUnknownKey {
		t.Errorf("two keys of the algorithm: got %v, want %v", err, token.ErrUnknownKey)
	}
}

func TestBothNamesOfEdDSA(t *testing.T) {
	k := key(t, "EdDSA", "k1")
	raw := sign(t, k, map[string]any{"alg": "Ed25519"}, claims())
	if err := accept(raw, rules(t), ringOf(t, k)); err != nil {
		t.Error(err)
	}
	if err := accept(raw, rules(t, "EdDSA"), ringOf(t, k)); err != token.ErrAlgorithm {
		t.Errorf("the allow-list names EdDSA only: got %v, want %v", err, token.ErrAlgorithm)
	}
}

func TestRememberedHeaderServesNoOtherToken(t *testing.T) {
	k := key(t, "EdDSA", "remembered")
	first, err := token.Parse(sign(t, k, nil, claims()), token.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	first.Remember()
	second, err := token.Parse(sign(t, k, nil, claims(map[string]any{"sub": "eve"})), token.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	if second.Header != first.Header {
		t.Error("the same header is parsed twice")
	}
	third, err := token.Parse(sign(t, k, map[string]any{"typ": "at+jwt"}, claims()), token.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	if third.Header.Type != "at+jwt" {
		t.Errorf("typ = %q", third.Header.Type)
	}
}
