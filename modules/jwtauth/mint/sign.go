package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Algorithms are the algorithms a Key can have.
var Algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
	"EdDSA", "Ed25519", "HS256", "HS384", "HS512",
}

// Claims are the claims of an access token in the words of the `token` command.
type Claims struct {
	Issuer, Subject string
	// Audience becomes a string if there is one, else an array.
	Audience []string
	// Scope is the space-separated list of scopes.
	Scope string
	// TTL is how long the token lives from now. Zero leaves `exp` out.
	TTL time.Duration
	// More holds further claims; they win over the ones above.
	More map[string]any
}

// Map returns the claims as the members of a token issued at now.
func (c Claims) Map(now time.Time) map[string]any {
	m := map[string]any{"iat": now.Unix()}
	if c.Issuer != "" {
		m["iss"] = c.Issuer
	}
	if c.Subject != "" {
		m["sub"] = c.Subject
	}
	switch len(c.Audience) {
	case 0:
	case 1:
		m["aud"] = c.Audience[0]
	default:
		m["aud"] = c.Audience
	}
	if c.Scope != "" {
		m["scope"] = c.Scope
	}
	if c.TTL != 0 {
		m["exp"] = now.Add(c.TTL).Unix()
	}
	for name, value := range c.More {
		m[name] = value
	}
	return m
}

// Token signs c as an access token issued now.
func (k *Key) Token(c Claims) (string, error) { return k.Sign(nil, c.Map(time.Now())) }

// Sign returns the compact form of claims. Members of header are added to
// `alg`, `typ` and `kid` and win over them; nil values take a member out.
func (k *Key) Sign(header, claims map[string]any) (string, error) {
	h := map[string]any{"alg": k.Alg, "typ": "JWT"}
	if k.ID != "" {
		h["kid"] = k.ID
	}
	for name, value := range header {
		h[name] = value
		if value == nil {
			delete(h, name)
		}
	}
	headerText, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("encode header: %w", err)
	}
	claimsText, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	return k.SignRaw(headerText, claimsText)
}

// SignRaw signs header and claims exactly as they are, whatever they hold.
func (k *Key) SignRaw(header, claims []byte) (string, error) {
	input := encode(header) + "." + encode(claims)
	signature, err := k.Signature([]byte(input))
	if err != nil {
		return "", err
	}
	return input + "." + encode(signature), nil
}

// Signature signs input with the key's algorithm, in the form JOSE gives it.
func (k *Key) Signature(input []byte) ([]byte, error) {
	hash := hashes[k.Alg[max(len(k.Alg)-3, 0):]]
	var digest []byte
	if hash != 0 {
		h := hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	switch {
	case k.secret != nil:
		mac := hmac.New(hash.New, k.secret)
		mac.Write(input)
		return mac.Sum(nil), nil
	case strings.HasPrefix(k.Alg, "PS"):
		return k.private.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	case strings.HasPrefix(k.Alg, "RS"):
		return k.private.Sign(rand.Reader, digest, hash)
	case strings.HasPrefix(k.Alg, "ES"):
		return k.ecdsaSignature(digest, hash)
	}
	return k.private.Sign(rand.Reader, input, crypto.Hash(0))
}

// ecdsaSignature returns r ‖ s, each as long as the curve's order.
func (k *Key) ecdsaSignature(digest []byte, hash crypto.Hash) ([]byte, error) {
	der, err := k.private.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, err
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, err
	}
	size := (curves[k.Alg].Params().BitSize + 7) / 8
	out := make([]byte, 2*size)
	pair.R.FillBytes(out[:size])
	pair.S.FillBytes(out[size:])
	return out, nil
}

func (k *Key) naturalAlg() string {
	switch pub := k.Public().(type) {
	case *rsa.PublicKey:
		return "RS256"
	case ed25519.PublicKey:
		return "EdDSA"
	case *ecdsa.PublicKey:
		for alg, curve := range curves {
			if curve == pub.Curve {
				return alg
			}
		}
	case nil:
		return "HS256"
	}
	return ""
}

// check says why the algorithm cannot work with the key.
func (k *Key) check() error {
	if !slices.Contains(Algorithms, k.Alg) {
		return fmt.Errorf("algorithm '%s' is none of %s", k.Alg, strings.Join(Algorithms, ", "))
	}
	fits := false
	switch pub := k.Public().(type) {
	case nil:
		fits = k.secret != nil && strings.HasPrefix(k.Alg, "HS")
	case *rsa.PublicKey:
		fits = strings.HasPrefix(k.Alg, "RS") || strings.HasPrefix(k.Alg, "PS")
	case *ecdsa.PublicKey:
		fits = curves[k.Alg] == pub.Curve
	case ed25519.PublicKey:
		fits = strings.HasPrefix(k.Alg, "Ed")
	}
	if !fits {
		return fmt.Errorf("algorithm %s cannot sign with this kind of key", k.Alg)
	}
	return nil
}

var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
