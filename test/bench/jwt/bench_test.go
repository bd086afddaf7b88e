// Package jwt measures the token path beside its peers, in one run: verify an
// access token and check issuer, audience and times. It is a module of its own
// so that the peers never enter the product's go.mod.
package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	golangjwt "github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwk"
	jwx2 "github.com/lestrrat-go/jwx/v2/jwt"
	jwk3 "github.com/lestrrat-go/jwx/v3/jwk"
	jwx3 "github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

const (
	issuer   = "https://idp.example.com/realms/main"
	audience = "orders-api"
	leeway   = 30 * time.Second
)

// candidate verifies a token under the one key that it was made for.
type candidate struct {
	name   string
	verify func(b *testing.B, k *mint.Key) func(raw string) error
}

var candidates = []candidate{
	{"raw", raw},
	{"sallyport", sallyport},
	{"golang-jwt-v5", golangJWT},
	{"go-jose-v4", goJose},
	{"jwx-v2", jwxV2},
	{"jwx-v3", jwxV3},
}

// BenchmarkVerify reports, besides allocations and time, the CPU that an
// operation took: on a machine that others share, only that compares.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		k, err := mint.Generate(alg, "key-2026-11")
		if err != nil {
			b.Fatal(err)
		}
		tok := sample(b, k)
		forged := tok[:len(tok)-10] + "AAAAAAAAAA"
		for _, c := range candidates {
			b.Run(alg+"/"+c.name, func(b *testing.B) {
				verify := c.verify(b, k)
				if verify(forged) == nil {
					b.Fatal("a forged token is accepted")
				}
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					if err := verify(tok); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// cpu returns the time the process has computed, in nanoseconds.
func cpu(b *testing.B) int64 {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return syscall.TimevalToNsec(usage.Utime) + syscall.TimevalToNsec(usage.Stime)
}

// sample is a token as an identity provider makes them: 17 claims, about 1 kB.
func sample(b *testing.B, k *mint.Key) string {
	now := time.Now().Unix()
	tok, err := k.Sign(nil, map[string]any{
		"iss": issuer, "aud": []string{audience, "account"}, "sub": "f:3f1c2c1e-51b2-4d0e-9c0f-1b3c:ada", "azp": "web-shop",
		"client_id": "web-shop", "jti": "5c4a1f8e-7b1e-4a83-8a80-0d2f6f6c6c2d", "sid": "2d6b1f0a-7f3c-4f3b-9a3e-6a7c",
		"iat": now, "nbf": now, "exp": now + 3600, "auth_time": now - 60, "acr": "1", "scope": "openid orders:read orders:write profile email",
		"email": "ada@example.com", "email_verified": true, "preferred_username": "ada",
		"realm_access": map[string]any{"roles": []string{"offline_access", "uma_authorization", "default-roles-main", "buyer"}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return tok
}

// raw is the floor: decode the signature, hash, verify.
func raw(_ *testing.B, k *mint.Key) func(string) error {
	return func(tok string) error {
		cut := strings.LastIndexByte(tok, '.')
		sig, err := base64.RawURLEncoding.DecodeString(tok[cut+1:])
		if err != nil {
			return err
		}
		input := []byte(tok[:cut])
		digest := sha256.Sum256(input)
		ok := false
		switch pub := k.Public().(type) {
		case *rsa.PublicKey:
			return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig)
		case *ecdsa.PublicKey:
			ok = ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
		case ed25519.PublicKey:
			ok = ed25519.Verify(pub, input, sig)
		}
		if !ok {
			return fmt.Errorf("signature does not verify")
		}
		return nil
	}
}

func sallyport(b *testing.B, k *mint.Key) func(string) error {
	key, err := token.NewKey(k.ID, token.ParseAlgorithm(k.Alg), k.Public())
	if err != nil {
		b.Fatal(err)
	}
	set, err := token.ParseAlgorithms(token.DefaultAlgorithms)
	if err != nil {
		b.Fatal(err)
	}
	ring := token.NewRing(key)
	rules := &token.Rules{Issuer: issuer, Audiences: []string{audience}, Algorithms: set, Types: []string{"", "jwt", "at+jwt"}, Leeway: leeway}
	return func(tok string) error {
		t, err := token.Parse(tok, token.MaxSize)
		if err != nil {
			return err
		}
		if err := rules.Check(t, time.Now()); err != nil {
			return err
		}
		if _, err := ring.Verify(t); err != nil {
			return err
		}
		t.Remember()
		return nil
	}
}

func golangJWT(_ *testing.B, k *mint.Key) func(string) error {
	parser := golangjwt.NewParser(golangjwt.WithValidMethods([]string{k.Alg}), golangjwt.WithIssuer(issuer),
		golangjwt.WithAudience(audience), golangjwt.WithLeeway(leeway), golangjwt.WithExpirationRequired())
	return func(tok string) error {
		_, err := parser.Parse(tok, func(*golangjwt.Token) (any, error) { return k.Public(), nil })
		return err
	}
}

func goJose(_ *testing.B, k *mint.Key) func(string) error {
	algorithms := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(k.Alg)}
	return func(tok string) error {
		t, err := josejwt.ParseSigned(tok, algorithms)
		if err != nil {
			return err
		}
		var claims josejwt.Claims
		var all map[string]any
		if err := t.Claims(k.Public(), &claims, &all); err != nil {
			return err
		}
		return claims.ValidateWithLeeway(josejwt.Expected{Issuer: issuer, AnyAudience: josejwt.Audience{audience}, Time: time.Now()}, leeway)
	}
}

func jwxV2(b *testing.B, k *mint.Key) func(string) error {
	set, err := jwk.Parse(mint.JWKS(k))
	if err != nil {
		b.Fatal(err)
	}
	return func(tok string) error {
		_, err := jwx2.Parse([]byte(tok), jwx2.WithKeySet(set), jwx2.WithIssuer(issuer), jwx2.WithAudience(audience), jwx2.WithAcceptableSkew(leeway))
		return err
	}
}

func jwxV3(b *testing.B, k *mint.Key) func(string) error {
	set, err := jwk3.Parse(mint.JWKS(k))
	if err != nil {
		b.Fatal(err)
	}
	return func(tok string) error {
		_, err := jwx3.Parse([]byte(tok), jwx3.WithKeySet(set), jwx3.WithIssuer(issuer), jwx3.WithAudience(audience), jwx3.WithAcceptableSkew(leeway))
		return err
	}
}
