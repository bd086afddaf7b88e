package token

// MaxProof bounds a proof's length in bytes.
const MaxProof = 8 << 10

// ParseProof reads a DPoP proof (RFC 9449): a token that brings its own public
// key, because what it proves is who holds it. Key is the JSON Web Key's text.
func ParseProof(raw string) (proof *Token, key string, err error) {
	header := func(s *scratch, segment string) (*Header, error) {
		return (&Header{brings: true}).read(s, segment)
	}
	if proof, err = parse(raw, MaxProof, header); err != nil {
		return nil, "", err
	}
	if proof.Header.Type != "dpop+jwt" {
		return nil, "", ErrType
	}
	if proof.Header.key == "" {
		return nil, "", ErrUnknownKey
	}
	return proof, proof.Header.key, nil
}
