package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// kinds says, for each kind of key, which algorithms it may name and how many
// bytes its members have.
var kinds = map[string]struct {
	algorithms []string
	members    map[string]int // zero: any length
}{
	"RSA ": {
		[]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
		map[string]int{"n": 0, "e": 0},
	},
	"EC P-256":    {[]string{"ES256"}, map[string]int{"x": 32, "y": 32}},
	"EC P-384":    {[]string{"ES384"}, map[string]int{"x": 48, "y": 48}},
	"EC P-521":    {[]string{"ES512"}, map[string]int{"x": 66, "y": 66}},
	"OKP Ed25519": {[]string{"EdDSA", "Ed25519"}, map[string]int{"x": 32}},
}

// private are the members that only a private or symmetric key has. A set
// that publishes one has lost the key.
var private = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// admit reads one JSON Web Key, checking before the parser sees it what the
// parser lets through, and after it what only the parsed key shows. The Key's
// ID is set on error too, as far as it is fit to be logged.
func admit(raw json.RawMessage) (Key, error) {
	members, err := object(raw)
	if err != nil {
		return Key{}, err
	}
	var k Key
	var kty, crv, use string
	for name, target := range map[string]*string{"kid": &k.ID, "alg": &k.Algorithm, "kty": &kty, "crv": &crv, "use": &use} {
		if value, ok := members[name]; ok && json.Unmarshal(value, target) != nil {
			return Key{}, fmt.Errorf("member '%s' is not a string", name)
		}
	}
	if len(k.ID) > 256 || !printable(k.ID) {
		return Key{}, errors.New("kid is too long or not printable")
	}
	for _, name := range private {
		if _, ok := members[name]; ok {
			return k, fmt.Errorf("member '%s' belongs to a private or symmetric key", name)
		}
	}
	if use != "" && use != "sig" {
		return k, errors.New("use is not 'sig'")
	}
	if ops, ok := members["key_ops"]; ok {
		var list []string
		if json.Unmarshal(ops, &list) != nil || !slices.Contains(list, "verify") {
			return k, errors.New("key_ops does not hold 'verify'")
		}
	}
	kind, known := kinds[kty+" "+crv]
	if !known {
		return k, fmt.Errorf("kty '%.20s' with crv '%.20s' is not known", kty, crv)
	}
	if k.Algorithm != "" && !slices.Contains(kind.algorithms, k.Algorithm) {
		return k, fmt.Errorf("alg '%.20s' does not work with kty %s %s", k.Algorithm, kty, crv)
	}
	for name, size := range kind.members {
		b, err := bits(members, name)
		if err != nil {
			return k, err
		}
		if size != 0 && len(b) != size {
			return k, fmt.Errorf("member '%s' has %d bytes, want %d", name, len(b), size)
		}
		if longest := map[string]int{"n": 1025, "e": 4}[name]; size == 0 && len(b) > longest {
			return k, fmt.Errorf("member '%s' has %d bytes, accepted are up to %d", name, len(b), longest)
		}
	}
	if k.Public, err = parseKey(raw); err != nil {
		return k, err
	}
	return k, sound(k.Public)
}

// sound checks the key itself.
func sound(public any) error {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("RSA key has %d bits, accepted are 2048 to 8192", n)
		}
		if p.N.Bit(0) == 0 || p.E < 3 || p.E&1 == 0 || big.NewInt(int64(p.E)).BitLen() > 31 {
			return errors.New("RSA modulus or exponent is not sound")
		}
	case *ecdsa.PublicKey:
		if _, err := p.ECDH(); err != nil { // refuses points off the curve
			return fmt.Errorf("EC point: %w", err)
		}
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return fmt.Errorf("Ed25519 key has %d bytes", len(p))
		}
	default:
		return fmt.Errorf("keys of type %T are not used", public)
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
