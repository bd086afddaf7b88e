package token

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/bigmod"
)

// rsaKey is an RSA public key with what its operation needs made once.
// crypto/rsa makes the constants of the modulus anew for each signature, and
// takes the precautions of a secret over numbers that are all public.
type rsaKey struct {
	*rsa.PublicKey
	exponent  *big.Int
	modulus   *bigmod.Modulus // nil above swift bits
	validated bool            // by crypto/rsa alone
}

// swift is up to how many bits bigmod, which has assembly code for these
// lengths, is faster than math/big.
const swift = 2048

// Size limits of RSA keys in bits. Larger ones make each verification an
// attack on the gateway.
const (
	MinRSA = 2048
	MaxRSA = 8192
)

func newRSAKey(p *rsa.PublicKey) (*rsaKey, error) {
	bits := p.N.BitLen()
	if bits < MinRSA || bits > MaxRSA {
		return nil, fmt.Errorf("RSA key has %d bits, accepted are %d to %d", bits, MinRSA, MaxRSA)
	}
	exponent := big.NewInt(int64(p.E))
	if p.N.Bit(0) == 0 || p.E < 3 || p.E&1 == 0 || exponent.BitLen() > 31 {
		return nil, errors.New("RSA modulus or exponent is not sound")
	}
	k := &rsaKey{PublicKey: p, exponent: exponent, validated: fips140.Enabled()}
	if bits <= swift {
		var err error
		if k.modulus, err = bigmod.NewModulus(p.N.Bytes()); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// verify checks an RSASSA-PKCS1-v1_5 signature (RFC 8017, section 8.2.2): it
// makes the one encoded message there can be and compares. space is taken for
// that message.
func (k *rsaKey) verify(h crypto.Hash, digest, signature, space []byte) bool {
	if k.validated {
		return rsa.VerifyPKCS1v15(k.PublicKey, h, digest, signature) == nil
	}
	if len(signature) != k.Size() {
		return false
	}
	message, ok := k.raise(signature)
	return ok && bytes.Equal(message, encode(space[:0], h, digest, k.Size()))
}

// raise returns signature to the power of the exponent, of the modulus's
// length, or false if signature is not below the modulus.
func (k *rsaKey) raise(signature []byte) ([]byte, bool) {
	if k.modulus != nil {
		s, err := bigmod.NewNat().SetBytes(signature, k.modulus)
		if err != nil {
			return nil, false
		}
		return bigmod.NewNat().ExpShortVarTime(s, uint(k.E), k.modulus).Bytes(k.modulus), true
	}
	s := new(big.Int).SetBytes(signature)
	if s.Cmp(k.N) >= 0 {
		return nil, false
	}
	return s.Exp(s, k.exponent, k.N).FillBytes(make([]byte, k.Size())), true
}

// digestInfo is what stands before a digest: its algorithm's identifier in DER
// (RFC 8017, section 9.2, note 1).
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: []byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"),
	crypto.SHA384: []byte("\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"),
	crypto.SHA512: []byte("\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"),
}

// encode appends the encoded message of a digest, size bytes long
// (EMSA-PKCS1-v1_5: RFC 8017, section 9.2). The shortest key leaves room for
// the longest digest.
func encode(b []byte, h crypto.Hash, digest []byte, size int) []byte {
	info := digestInfo[h]
	b = append(b, 0, 1)
	for range size - len("\x00\x01\x00") - len(info) - len(digest) {
		b = append(b, 0xff)
	}
	b = append(b, 0)
	return append(append(b, info...), digest...)
}
