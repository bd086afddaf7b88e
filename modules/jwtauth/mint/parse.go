package mint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
)

// Parse reads a private key: a PEM block (PKCS #8, PKCS #1, SEC 1) or a JSON
// Web Key. Non-empty alg and kid win over those the JSON Web Key names.
func Parse(content []byte, alg, kid string) (*Key, error) {
	if trimmed := bytes.TrimSpace(content); len(trimmed) > 0 && trimmed[0] == '{' {
		return parseJWK(trimmed, alg, kid)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("neither a PEM block nor a JSON Web Key")
	}
	private, err := parseDER(block)
	if err != nil {
		return nil, fmt.Errorf("parse PEM block %s: %w", block.Type, err)
	}
	return New(private, alg, kid)
}

func parseDER(block *pem.Block) (any, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("not a private key")
}

// privateJWK holds the members of a private JSON Web Key that signing needs.
type privateJWK struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	N   member `json:"n"`
	E   member `json:"e"`
	D   member `json:"d"`
	P   member `json:"p"`
	Q   member `json:"q"`
	K   member `json:"k"`
}

// member is a base64url string.
type member []byte

func (m *member) UnmarshalText(text []byte) (err error) {
	*m, err = base64.RawURLEncoding.Strict().DecodeString(string(text))
	return err
}

func (m member) int() *big.Int { return new(big.Int).SetBytes(m) }

func parseJWK(content []byte, alg, kid string) (*Key, error) {
	var j privateJWK
	if err := json.Unmarshal(content, &j); err != nil {
		return nil, fmt.Errorf("parse JSON Web Key: %w", err)
	}
	if alg == "" {
		alg = j.Alg
	}
	if kid == "" {
		kid = j.Kid
	}
	private, err := j.private()
	if err != nil {
		return nil, fmt.Errorf("parse JSON Web Key: %w", err)
	}
	return New(private, alg, kid)
}

func (j *privateJWK) private() (any, error) {
	if j.Kty == "oct" {
		if len(j.K) == 0 {
			return nil, fmt.Errorf("member 'k' is empty")
		}
		return []byte(j.K), nil
	}
	if len(j.D) == 0 {
		return nil, fmt.Errorf("member 'd' is missing: this is a public key, and signing needs the private one")
	}
	switch j.Kty + " " + j.Crv {
	case "RSA ":
		key := &rsa.PrivateKey{D: j.D.int(), Primes: []*big.Int{j.P.int(), j.Q.int()}}
		key.N, key.E = j.N.int(), int(j.E.int().Int64())
		if err := key.Validate(); err != nil {
			return nil, err
		}
		key.Precompute()
		return key, nil
	case "EC P-256":
		return ecdsa.ParseRawPrivateKey(elliptic.P256(), j.D)
	case "EC P-384":
		return ecdsa.ParseRawPrivateKey(elliptic.P384(), j.D)
	case "EC P-521":
		return ecdsa.ParseRawPrivateKey(elliptic.P521(), j.D)
	case "OKP Ed25519":
		if len(j.D) != ed25519.SeedSize {
			return nil, fmt.Errorf("member 'd' has %d bytes, want %d", len(j.D), ed25519.SeedSize)
		}
		return ed25519.NewKeyFromSeed(j.D), nil
	}
	return nil, fmt.Errorf("kty '%s' with crv '%s' is not known", j.Kty, j.Crv)
}
