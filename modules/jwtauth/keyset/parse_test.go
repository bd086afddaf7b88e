package keyset

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

func generate(t testing.TB, alg, kid string) *mint.Key {
	t.Helper()
	k, err := mint.Generate(alg, kid)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseTakesEveryKind(t *testing.T) {
	var keys []*mint.Key
	for _, alg := range []string{"RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		keys = append(keys, generate(t, alg, alg))
	}
	got, skipped, err := Parse(mint.JWKS(keys...))
	if err != nil || len(skipped) != 0 || len(got) != len(keys) {
		t.Fatalf("got %d keys, skipped %v, %v", len(got), skipped, err)
	}
	for i, k := range got {
		same := cmp.Equal(fingerprint([]Key{k}), fingerprint([]Key{{ID: keys[i].ID, Algorithm: keys[i].Alg, Public: keys[i].Public()}}))
		if !same {
			t.Errorf("key %d is %s %s, not the one that was published", i, k.ID, k.Algorithm)
		}
	}
}

// Each key of the table is skipped, and the good one beside it is still used.
func TestParseSkipsWhatMustNotVerify(t *testing.T) {
	good := generate(t, "ES256", "good")
	ec := generate(t, "ES256", "x").JWK()
	rsa := generate(t, "RS256", "x").JWK()
	ed := generate(t, "EdDSA", "x").JWK()
	p384 := generate(t, "ES384", "x").JWK()
	change := func(jwk map[string]any, name string, v any) string {
		next := map[string]any{}
		for k, old := range jwk {
			next[k] = old
		}
		next[name] = v
		text, err := json.Marshal(next)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text := func(jwk map[string]any) string { return change(jwk, "kid", "x") }
	enc := base64.RawURLEncoding.EncodeToString
	short := make([]byte, 128)
	short[0], short[127] = 0xFF, 1
	even := make([]byte, 256)
	even[0] = 0xFF

	for _, c := range []struct{ name, jwk, why string }{
		{"unknown kty", `{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}`, "is not known"},
		{"unknown curve", change(ec, "crv", "secp256k1"), "is not known"},
		{"Ed448", change(ed, "crv", "Ed448"), "is not known"},
		{"oct", `{"kty":"oct","k":"AAAA"}`, "private or symmetric"},
		{"private EC", change(ec, "d", "AAAA"), "private or symmetric"},
		{"private RSA", change(rsa, "p", "AAAA"), "private or symmetric"},
		{"use enc", change(ec, "use", "enc"), "use is not"},
		{"key_ops sign", change(ec, "key_ops", []string{"sign"}), "key_ops"},
		{"encryption alg", change(rsa, "alg", "RSA-OAEP"), "does not work"},
		{"P-384 labelled ES256", change(p384, "alg", "ES256"), "does not work"},
		{"alg none", change(rsa, "alg", "none"), "does not work"},
		{"off the curve", change(ec, "y", ec["x"]), "not on curve"},
		{"short x", change(ec, "x", "AAAA"), "has 3 bytes"},
		{"31-byte Ed25519", change(ed, "x", enc(make([]byte, 31))), "has 31 bytes"},
		{"1024-bit RSA", change(rsa, "n", enc(short)), "has 1024 bits"},
		{"even modulus", change(rsa, "n", enc(even)), "not sound"},
		{"exponent one", change(rsa, "e", "AQ"), "not sound"},
		{"exponent of nine bytes", change(rsa, "e", enc([]byte{1, 0, 0, 0, 0, 0, 0, 0, 3})), "has 9 bytes"},
		{"padding", change(ec, "x", ec["x"].(string)+"="), "not base64url"},
		{"newline", change(ec, "x", ec["x"].(string)+"\n"), "not base64url"},
		{"duplicate member", strings.Replace(text(ec), `{`, `{"kty":"EC",`, 1), "is there twice"},
		{"kid number", change(ec, "kid", 7), "not a string"},
		{"kid of 300 bytes", change(ec, "kid", strings.Repeat("k", 300)), "kid"},
		{"null", `null`, "not an object"},
		{"string", `"key"`, "not an object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			goodText := text(good.JWK())
			keys, skipped, err := Parse(fmt.Appendf(nil, `{"keys":[%s,%s]}`, c.jwk, goodText))
			if err != nil {
				t.Fatalf("the set is spoilt: %v", err)
			}
			if len(keys) != 1 || len(skipped) != 1 {
				t.Fatalf("%d keys, skipped %v", len(keys), skipped)
			}
			if !strings.Contains(skipped[0].Why, c.why) {
				t.Errorf("skipped because %q, want %q", skipped[0].Why, c.why)
			}
			if _, _, err := Parse(fmt.Appendf(nil, `{"keys":[%s]}`, c.jwk)); !errors.Is(err, errEmpty) {
				t.Errorf("alone: %v, want %v", err, errEmpty)
			}
		})
	}
}

func TestParseRefusesDocuments(t *testing.T) {
	key, err := json.Marshal(generate(t, "EdDSA", "k").JWK())
	if err != nil {
		t.Fatal(err)
	}
	for name, document := range map[string]string{
		"empty text":      ``,
		"HTML":            `<html></html>`,
		"empty set":       `{"keys":[]}`,
		"null set":        `{"keys":null}`,
		"no keys":         `{}`,
		"keys twice":      `{"keys":[` + string(key) + `],"keys":[]}`,
		"two documents":   `{"keys":[` + string(key) + `]}{}`,
		"a single key":    string(key),
		"too many keys":   `{"keys":[` + strings.Repeat(string(key)+",", MaxKeys) + string(key) + `]}`,
		"cut off":         `{"keys":[` + string(key),
		"half a megabyte": `{"keys":[` + string(key) + `],"pad":"` + strings.Repeat("x", MaxBytes) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if keys, _, err := Parse([]byte(document)); err == nil {
				t.Errorf("accepted with %d keys", len(keys))
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	k, err := mint.Generate("ES256", "k1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mint.JWKS(k))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQ"}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		keys, _, err := Parse(document)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys and %v", len(keys), err)
		}
		for _, k := range keys {
			if sound(k.Public) != nil {
				t.Fatalf("unsound key %v of %s", k, document)
			}
		}
	})
}
