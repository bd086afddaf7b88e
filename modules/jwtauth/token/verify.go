package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
)

// Verify checks the token's signature.
func (k *Key) Verify(t *Token) error {
	if !k.Algorithm.same(t.Header.Algorithm) {
		return ErrAlgorithm
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	signature, err := s.decode(t.raw[t.signed+1:])
	if err != nil {
		return err
	}
	s.text = append(s.text[:0], t.raw[:t.signed]...)
	if !k.verify(s, signature) {
		return ErrSignature
	}
	return nil
}

var pss = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}

// verify checks signature over s.text.
func (k *Key) verify(s *scratch, signature []byte) bool {
	switch a := k.Algorithm; {
	case k.mac != nil:
		h := k.hmac()
		defer k.mac.Put(h)
		h.Write(s.text)
		return hmac.Equal(h.Sum(s.digest[:0]), signature)
	case k.ed != nil:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(k.ed, s.text, signature)
	case k.ec != nil:
		size := (k.ec.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		// The DER form goes behind the signed text in the same space: digest
		// it first.
		digest := s.sum(a)
		s.text = appendDER(s.text[:0], signature[:size], signature[size:])
		return ecdsa.VerifyASN1(k.ec, digest, s.text)
	case a >= PS256:
		return rsa.VerifyPSS(k.rsa.PublicKey, a.hash(), s.sum(a), signature, pss) == nil
	default:
		// The encoded message goes where the signed text was.
		return k.rsa.verify(a.hash(), s.sum(a), signature, s.text)
	}
}

// sum hashes s.text.
func (s *scratch) sum(a Algorithm) []byte {
	switch a.hash().Size() {
	case sha256.Size:
		d := sha256.Sum256(s.text)
		return append(s.digest[:0], d[:]...)
	case sha512.Size384:
		d := sha512.Sum384(s.text)
		return append(s.digest[:0], d[:]...)
	}
	d := sha512.Sum512(s.text)
	return append(s.digest[:0], d[:]...)
}

// appendDER appends SEQUENCE { INTEGER r, INTEGER s }, which is how Go takes
// an ECDSA signature. JOSE has r ‖ s of fixed length.
func appendDER(b, r, s []byte) []byte {
	r, s = trim(r), trim(s)
	length := 4 + len(r) + len(s) + pad(r) + pad(s)
	b = append(b, 0x30)
	if length >= 0x80 {
		b = append(b, 0x81)
	}
	b = append(b, byte(length))
	return appendInteger(appendInteger(b, r), s)
}

func appendInteger(b, n []byte) []byte {
	b = append(b, 0x02, byte(len(n)+pad(n)))
	if pad(n) == 1 {
		b = append(b, 0)
	}
	return append(b, n...)
}

// trim takes leading zeros off, all but the last.
func trim(n []byte) []byte {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	return n
}

// pad is 1 where the top bit would make the number negative.
func pad(n []byte) int { return int(n[0] >> 7) }
