package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"fmt"
	"hash"
	"sync"
)

// Key verifies the tokens of one algorithm.
type Key struct {
	// ID is the `kid` under which the issuer publishes the key, or empty.
	ID string
	// Algorithm is the only one the key serves.
	Algorithm Algorithm

	rsa *rsaKey
	ec  *ecdsa.PublicKey
	ed  ed25519.PublicKey
	mac *sync.Pool // of hash.Hash, keyed with the secret
}

// NewKey returns a Key for public, an *rsa.PublicKey, *ecdsa.PublicKey,
// ed25519.PublicKey or, for the HS algorithms, a secret []byte.
func NewKey(id string, a Algorithm, public any) (*Key, error) {
	k := &Key{ID: id, Algorithm: a}
	fits := false
	switch p := public.(type) {
	case *rsa.PublicKey:
		sound, err := newRSAKey(p)
		if err != nil {
			return nil, err
		}
		k.rsa, fits = sound, a >= RS256 && a <= PS512
	case *ecdsa.PublicKey:
		if _, err := p.ECDH(); err != nil {
			return nil, fmt.Errorf("point is not on its curve: %w", err)
		}
		k.ec, fits = p, curveOf(a) == p.Curve
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("Ed25519 key has %d bytes, want %d", len(p), ed25519.PublicKeySize)
		}
		k.ed, fits = p, a.edwards()
	case []byte:
		if a.Symmetric() && len(p) < a.hash().Size() {
			return nil, fmt.Errorf("secret has %d bytes, %s needs at least %d", len(p), a, a.hash().Size())
		}
		secret := append([]byte(nil), p...)
		k.mac = &sync.Pool{New: func() any { return hmac.New(a.hash().New, secret) }}
		fits = a.Symmetric()
	}
	if !fits {
		return nil, fmt.Errorf("algorithm %s does not work with a %T", a, public)
	}
	return k, nil
}

func curveOf(a Algorithm) elliptic.Curve {
	switch a {
	case ES256:
		return elliptic.P256()
	case ES384:
		return elliptic.P384()
	case ES512:
		return elliptic.P521()
	}
	return nil
}

func (k *Key) hmac() hash.Hash {
	h := k.mac.Get().(hash.Hash)
	h.Reset()
	return h
}

// Ring is the keys of one issuer at one time.
type Ring struct {
	byID map[string][]*Key
	all  []*Key
}

// NewRing returns a Ring of keys.
func NewRing(keys ...*Key) *Ring {
	r := &Ring{byID: make(map[string][]*Key, len(keys)), all: keys}
	for _, k := range keys {
		r.byID[k.ID] = append(r.byID[k.ID], k)
	}
	return r
}

// Len is how many keys the ring holds.
func (r *Ring) Len() int { return len(r.all) }

// maxTries bounds how many signatures one token may cost.
const maxTries = 2

// Verify finds the key that the token's header asks for and verifies the
// signature with it. ErrUnknownKey says that the ring has no such key, which
// newer keys may change.
func (r *Ring) Verify(t *Token) (*Key, error) {
	candidates := r.all
	if t.Header.KeyID != "" {
		candidates = r.byID[t.Header.KeyID]
		if len(candidates) == 0 {
			return nil, ErrUnknownKey
		}
	}
	var fitting [maxTries]*Key
	n := 0
	for _, k := range candidates {
		if !k.Algorithm.same(t.Header.Algorithm) {
			continue
		}
		if n == maxTries || n == 1 && t.Header.KeyID == "" {
			// Without a kid the algorithm alone must single out the key.
			return nil, ErrUnknownKey
		}
		fitting[n] = k
		n++
	}
	if n == 0 {
		if t.Header.KeyID != "" {
			return nil, ErrAlgorithm
		}
		return nil, ErrUnknownKey
	}
	for _, k := range fitting[:n] {
		if k.Verify(t) == nil {
			return k, nil
		}
	}
	return nil, ErrSignature
}
