package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"strings"
)

// Algorithm is a signature algorithm; zero is none that is known.
type Algorithm uint8

// The algorithms. EdDSA and Ed25519 (RFC 9864) are two names of one operation.
const (
	RS256 Algorithm = iota + 1
	RS384
	RS512
	PS256
	PS384
	PS512
	ES256
	ES384
	ES512
	EdDSA
	Ed25519
	HS256
	HS384
	HS512
)

var algorithmNames = [...]string{
	RS256: "RS256", RS384: "RS384", RS512: "RS512", PS256: "PS256", PS384: "PS384", PS512: "PS512",
	ES256: "ES256", ES384: "ES384", ES512: "ES512", EdDSA: "EdDSA", Ed25519: "Ed25519",
	HS256: "HS256", HS384: "HS384", HS512: "HS512",
}

// ParseAlgorithm returns the algorithm of that exact name, or zero.
func ParseAlgorithm(name string) Algorithm {
	for a := RS256; a <= HS512; a++ {
		if algorithmNames[a] == name {
			return a
		}
	}
	return 0
}

func (a Algorithm) String() string {
	if a == 0 || int(a) >= len(algorithmNames) {
		return "none"
	}
	return algorithmNames[a]
}

// Symmetric says whether the algorithm works with a shared secret.
func (a Algorithm) Symmetric() bool { return a >= HS256 }

// same says whether both names stand for the same operation.
func (a Algorithm) same(b Algorithm) bool {
	return a == b || a.edwards() && b.edwards()
}

func (a Algorithm) edwards() bool { return a == EdDSA || a == Ed25519 }

func (a Algorithm) hash() crypto.Hash {
	switch a {
	case RS256, PS256, ES256, HS256:
		return crypto.SHA256
	case RS384, PS384, ES384, HS384:
		return crypto.SHA384
	case RS512, PS512, ES512, HS512:
		return crypto.SHA512
	}
	return 0
}

// AlgorithmSet is a set of algorithms.
type AlgorithmSet uint32

// DefaultAlgorithms are accepted where the operator names none.
var DefaultAlgorithms = []string{"RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"}

// ParseAlgorithms returns the set of the named algorithms.
func ParseAlgorithms(names []string) (AlgorithmSet, error) {
	var set AlgorithmSet
	for _, n := range names {
		a := ParseAlgorithm(n)
		if a == 0 {
			return 0, fmt.Errorf("algorithm '%s' is none of %s", n, strings.Join(algorithmNames[RS256:], ", "))
		}
		set |= 1 << a
	}
	return set, nil
}

// Has says whether a is in the set.
func (s AlgorithmSet) Has(a Algorithm) bool { return s&(1<<a) != 0 }

// Each calls see with each algorithm of the set.
func (s AlgorithmSet) Each(see func(Algorithm)) {
	for a := RS256; a <= HS512; a++ {
		if s.Has(a) {
			see(a)
		}
	}
}

// Serves says whether a key of algorithm a can serve a token that the set
// accepts: of EdDSA and Ed25519, either name will do.
func (s AlgorithmSet) Serves(a Algorithm) bool {
	return s.Has(a) || a.edwards() && (s.Has(EdDSA) || s.Has(Ed25519))
}

// Natural returns the one algorithm of a key that names none: the curve says
// it, or for RSA the accepted set, where RS256 goes first.
func Natural(public any, accepted AlgorithmSet) Algorithm {
	switch p := public.(type) {
	case ed25519.PublicKey:
		return EdDSA
	case *ecdsa.PublicKey:
		for a := ES256; a <= ES512; a++ {
			if curveOf(a) == p.Curve {
				return a
			}
		}
	case *rsa.PublicKey:
		for a := RS256; a <= PS512; a++ {
			if accepted.Has(a) {
				return a
			}
		}
	}
	return 0
}

// String names the algorithms.
func (s AlgorithmSet) String() string {
	var names []string
	s.Each(func(a Algorithm) { names = append(names, a.String()) })
	return strings.Join(names, ", ")
}
