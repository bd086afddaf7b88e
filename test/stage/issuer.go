package stage

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // SHA-256, by its number in crypto
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"time"
)

// Issuer signs tokens and serves its public keys. It is written apart from the
// gateway's own token code, so that one cannot hide the other's mistake.
type Issuer struct {
	*Server
	mu   sync.Mutex // guards keys
	keys map[string]crypto.Signer
}

// Algorithms are those an Issuer has a key for; the key's id is the name of
// the algorithm.
var Algorithms = []string{"ES256", "RS256", "EdDSA"}

// NewIssuer starts an issuer with one key for each of Algorithms.
func NewIssuer(name string) (*Issuer, error) {
	i := &Issuer{keys: make(map[string]crypto.Signer)}
	if err := i.Rotate(); err != nil {
		return nil, err
	}
	server, err := Serve(name, i.jwks)
	i.Server = server
	return i, err
}

// URL is the issuer's identifier, the `iss` of its tokens.
func (i *Issuer) URL() string { return "http://" + i.Addr + "/" }

// Rotate replaces every key, under new key ids from the second time on.
func (i *Issuer) Rotate() error {
	fresh := make(map[string]crypto.Signer)
	i.mu.Lock()
	defer i.mu.Unlock()
	suffix := ""
	if len(i.keys) > 0 {
		suffix = "-" + rand.Text()[:6]
	}
	for _, alg := range Algorithms {
		key, err := newKey(alg)
		if err != nil {
			return err
		}
		fresh[alg+suffix] = key
	}
	i.keys = fresh
	return nil
}

func newKey(alg string) (crypto.Signer, error) {
	switch alg {
	case "RS256":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// Token is what to sign.
type Token struct {
	// Alg is one of Algorithms.
	Alg string
	// Kid is the key id to name. Default: the signing key's own.
	Kid string
	// Forged signs with a key that the issuer does not publish.
	Forged bool
	// Claims are the claims as they are sent.
	Claims map[string]any
}

// Mint returns the token in its compact form.
func (i *Issuer) Mint(t Token) (string, error) {
	key, kid, err := i.key(t.Alg)
	if err != nil {
		return "", err
	}
	if t.Forged {
		if key, err = newKey(t.Alg); err != nil {
			return "", err
		}
	}
	if t.Kid != "" {
		kid = t.Kid
	}
	header, err := json.Marshal(map[string]any{"alg": t.Alg, "kid": kid, "typ": "JWT"})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(t.Claims)
	if err != nil {
		return "", err
	}
	input := b64(header) + "." + b64(claims)
	signature, err := sign(key, []byte(input))
	if err != nil {
		return "", err
	}
	return input + "." + b64(signature), nil
}

func (i *Issuer) key(alg string) (crypto.Signer, string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for kid, key := range i.keys {
		if algorithm(key) == alg {
			return key, kid, nil
		}
	}
	return nil, "", fmt.Errorf("no key for %s; there are keys for %v", alg, Algorithms)
}

func algorithm(key crypto.Signer) string {
	switch key.(type) {
	case *rsa.PrivateKey:
		return "RS256"
	case ed25519.PrivateKey:
		return "EdDSA"
	}
	return "ES256"
}

func sign(key crypto.Signer, input []byte) ([]byte, error) {
	if ed, ok := key.(ed25519.PrivateKey); ok {
		return ed25519.Sign(ed, input), nil
	}
	hash := crypto.SHA256.New()
	hash.Write(input)
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return key.Sign(rand.Reader, hash.Sum(nil), crypto.SHA256)
	}
	r, s, err := ecdsa.Sign(rand.Reader, ec, hash.Sum(nil))
	if err != nil {
		return nil, err
	}
	// RFC 7518, 3.4: the two numbers, each filled up to 32 bytes.
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
}

func (i *Issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	keys := make([]map[string]string, 0, len(i.keys))
	for kid, key := range i.keys {
		jwk := map[string]string{"kid": kid, "alg": algorithm(key), "use": "sig"}
		switch pub := key.Public().(type) {
		case *rsa.PublicKey:
			jwk["kty"], jwk["n"] = "RSA", b64(pub.N.Bytes())
			jwk["e"] = b64(big.NewInt(int64(pub.E)).Bytes())
		case ed25519.PublicKey:
			jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(pub)
		case *ecdsa.PublicKey:
			point, err := pub.Bytes() // 4, x, y
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			jwk["kty"], jwk["crv"] = "EC", "P-256"
			jwk["x"], jwk["y"] = b64(point[1:33]), b64(point[33:])
		}
		keys = append(keys, jwk)
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	json.NewEncoder(w).Encode(map[string]any{"keys": keys}) //nolint:errcheck // the client went away
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// Claims returns the claims of an ordinary token of this issuer.
func (i *Issuer) Claims(sub, audience string, ttl time.Duration) map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": i.URL(), "aud": audience, "sub": sub,
		"iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	}
}
