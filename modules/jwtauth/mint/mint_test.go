package mint

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// Another implementation must accept what this one signs, with the key set
// this one publishes.
func TestSignedTokensVerifyElsewhere(t *testing.T) {
	for _, alg := range Algorithms {
		if strings.HasPrefix(alg, "HS") || alg == "Ed25519" { // jwx/v2 does not know the RFC 9864 name
			continue
		}
		t.Run(alg, func(t *testing.T) {
			k, err := Generate(alg, "k1")
			if err != nil {
				t.Fatal(err)
			}
			tok, err := k.Token(Claims{Issuer: "https://idp.example.com/", Subject: "ada", Audience: []string{"a"}, TTL: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			set, err := jwk.Parse(JWKS(k))
			if err != nil {
				t.Fatal(err)
			}
			payload, err := jws.Verify([]byte(tok), jws.WithKeySet(set))
			if err != nil {
				t.Fatalf("verify %s: %v", tok, err)
			}
			var claims map[string]any
			if err := json.Unmarshal(payload, &claims); err != nil || claims["sub"] != "ada" || claims["aud"] != "a" {
				t.Errorf("claims %s (%v)", payload, err)
			}
		})
	}
}

func TestSecretSignsHMAC(t *testing.T) {
	k, err := New([]byte(strings.Repeat("s", 32)), "HS256", "")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := k.Token(Claims{Subject: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jws.Verify([]byte(tok), jws.WithKey(jwa.HS256, []byte(strings.Repeat("s", 32)))); err != nil {
		t.Error(err)
	}
}

func TestParseReadsPEMAndJWK(t *testing.T) {
	for _, alg := range []string{"RS256", "PS384", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			k, err := Generate(alg, "k1")
			if err != nil {
				t.Fatal(err)
			}
			text, err := k.PEM()
			if err != nil {
				t.Fatal(err)
			}
			fromPEM, err := Parse(text, alg, "k1")
			if err != nil {
				t.Fatal(err)
			}
			other, err := jwk.FromRaw(k.private)
			if err != nil {
				t.Fatal(err)
			}
			text, err = json.Marshal(other)
			if err != nil {
				t.Fatal(err)
			}
			fromJWK, err := Parse(text, alg, "k1")
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []*Key{fromPEM, fromJWK} {
				if got.Thumbprint() != k.Thumbprint() || got.Alg != alg || got.ID != "k1" {
					t.Errorf("got %+v, want the key it was made from", got.JWK())
				}
			}
		})
	}
}

func TestParseRefusesWhatCannotSign(t *testing.T) {
	for name, text := range map[string]string{
		"garbage":    "hello",
		"public key": `{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`,
		"curve":      `{"kty":"EC","crv":"secp256k1","d":"AAAA"}`,
		"short seed": `{"kty":"OKP","crv":"Ed25519","d":"AAAA"}`,
		"no secret":  `{"kty":"oct"}`,
		"padding":    `{"kty":"oct","k":"AAAA===="}`,
	} {
		t.Run(name, func(t *testing.T) {
			if k, err := Parse([]byte(text), "", ""); err == nil {
				t.Errorf("accepted as %+v", k)
			}
		})
	}
	k, err := Generate("ES256", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(k.private, "RS256", ""); err == nil {
		t.Error("an EC key signs RS256")
	}
}
