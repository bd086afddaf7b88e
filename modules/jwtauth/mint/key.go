// Package mint makes signing keys, the public key sets that belong to them,
// and tokens. It serves the demo's issuer, the `token` command and tests; the
// gateway itself only ever verifies.
package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
)

// Key signs tokens with one algorithm.
type Key struct {
	// ID is the `kid` of the key. Empty leaves it out.
	ID string
	// Alg is the JOSE name of the algorithm, such as `RS256`.
	Alg string

	private crypto.Signer
	secret  []byte
}

// Generate makes a new key for alg, one of Algorithms. RSA keys have 2048 bits.
func Generate(alg, kid string) (*Key, error) {
	k := &Key{ID: kid, Alg: alg}
	var err error
	switch {
	case strings.HasPrefix(alg, "RS"), strings.HasPrefix(alg, "PS"):
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case curves[alg] != nil:
		k.private, err = ecdsa.GenerateKey(curves[alg], rand.Reader)
	case alg == "EdDSA", alg == "Ed25519":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	case strings.HasPrefix(alg, "HS"):
		k.secret = make([]byte, 64)
		_, err = rand.Read(k.secret)
	}
	if err != nil {
		return nil, fmt.Errorf("generate %s key: %w", alg, err)
	}
	return k, k.check()
}

// New returns a Key that signs with private, an RSA, ECDSA or Ed25519 key, or
// a []byte secret. An empty alg is derived from the kind of key.
func New(private any, alg, kid string) (*Key, error) {
	k := &Key{ID: kid, Alg: alg}
	switch p := private.(type) {
	case []byte:
		k.secret = p
	case crypto.Signer:
		k.private = p
	default:
		return nil, fmt.Errorf("%T is no signing key", private)
	}
	if k.Alg == "" {
		k.Alg = k.naturalAlg()
	}
	return k, k.check()
}

// Thumbprint is the RFC 7638 thumbprint of the public key, or empty for a secret.
func (k *Key) Thumbprint() string {
	jwk := k.JWK()
	members := map[string][]string{"RSA": {"e", "kty", "n"}, "EC": {"crv", "kty", "x", "y"}, "OKP": {"crv", "kty", "x"}}
	kty, _ := jwk["kty"].(string)
	if members[kty] == nil {
		return ""
	}
	required := make(map[string]any)
	for _, m := range members[kty] {
		required[m] = jwk[m]
	}
	text, _ := json.Marshal(required) // strings only, sorted by Marshal
	sum := sha256.Sum256(text)
	return encode(sum[:])
}

// Public returns the public half, nil for a secret.
func (k *Key) Public() crypto.PublicKey {
	if k.private == nil {
		return nil
	}
	return k.private.Public()
}

// PEM returns the private key in PKCS #8 form, for a file.
func (k *Key) PEM() ([]byte, error) {
	if k.private == nil {
		return nil, fmt.Errorf("a secret has no PEM form")
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// JWK returns the public key as the members of a JSON Web Key; of a secret it
// returns nothing but the type.
func (k *Key) JWK() map[string]any {
	jwk := map[string]any{"alg": k.Alg, "use": "sig"}
	if k.ID != "" {
		jwk["kid"] = k.ID
	}
	switch pub := k.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"] = "RSA"
		jwk["n"] = encode(pub.N.Bytes())
		jwk["e"] = encode(minimal(pub.E))
	case *ecdsa.PublicKey:
		point, err := pub.Bytes() // 4 ‖ x ‖ y
		if err != nil {
			panic(fmt.Sprintf("mint: key %q is off its curve: %v", k.ID, err))
		}
		size := (len(point) - 1) / 2
		jwk["kty"], jwk["crv"] = "EC", pub.Curve.Params().Name
		jwk["x"], jwk["y"] = encode(point[1:1+size]), encode(point[1+size:])
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", encode(pub)
	default:
		jwk["kty"] = "oct"
	}
	return jwk
}

// JWKS returns the public key set document of keys.
func JWKS(keys ...*Key) []byte {
	list := make([]map[string]any, 0, len(keys))
	for _, k := range keys {
		list = append(list, k.JWK())
	}
	text, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		panic(fmt.Sprintf("mint: key set of %d keys: %v", len(keys), err))
	}
	return text
}

func minimal(e int) []byte {
	b := []byte{byte(e >> 24), byte(e >> 16), byte(e >> 8), byte(e)}
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// curves are the curves of the ECDSA algorithms.
var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}
