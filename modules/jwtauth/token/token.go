// Package token reads and verifies signed tokens (JWS in compact form holding
// JWT claims), strictly: one token has exactly one spelling, whatever is not
// understood is refused, and nothing a token says about its own keys counts.
package token

import (
	"encoding/base64"
	"strconv"
	"strings"
	"sync"
)

// MaxSize is the default limit on a token's length in bytes.
const MaxSize = 16 << 10

// Token is one parsed token. It is immutable; whether it may be believed is
// for Rules and Key to say.
type Token struct {
	// Header is the parsed header; tokens of one key share it.
	Header *Header
	// Issuer, Subject, ID are `iss`, `sub` and `jti`, empty when absent.
	Issuer, Subject, ID string

	subject any // Subject, once it is asked for by name time and again
	raw     string
	signed  int // length of header.claims, the signed part
	claims  string
	members []member
	// Times are in milliseconds of the Unix epoch; absent ones are noTime.
	expires, notBefore, issued int64
	audience                   Value

	space [20]member
}

const noTime = -1

// scratch is reused working space of one parse or verification.
type scratch struct {
	text   []byte // a segment, or the signed part
	out    []byte // what it decodes to
	digest [64]byte
}

var scratches = sync.Pool{New: func() any {
	return &scratch{text: make([]byte, 0, 4096), out: make([]byte, 0, 4096)}
}}

// Parse reads a token of at most max bytes.
func Parse(raw string, max int) (*Token, error) { return parse(raw, max, parseHeader) }

func parse(raw string, max int, readHeader func(*scratch, string) (*Header, error)) (*Token, error) {
	dot1, dot2, err := segments(raw, max)
	if err != nil {
		return nil, err
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	header, err := readHeader(s, raw[:dot1])
	if err != nil {
		return nil, err
	}
	claims, err := s.decode(raw[dot1+1 : dot2])
	if err != nil {
		return nil, err
	}
	t := &Token{
		Header: header, raw: raw, signed: dot2, claims: string(claims),
		expires: noTime, notBefore: noTime, issued: noTime,
	}
	if t.members, err = scanObject(t.claims, t.space[:0]); err != nil {
		return nil, err
	}
	if err := t.registered(); err != nil {
		return nil, err
	}
	// The signature is decoded when it is verified; a spelling that is not
	// canonical must be refused even where nobody verifies.
	if !canonical(raw[dot2+1:]) {
		return nil, ErrBase64
	}
	return t, nil
}

// Raw is the token as it came.
func (t *Token) Raw() string { return t.raw }

// Keep prepares the token for being asked again. Nobody else may have it yet.
func (t *Token) Keep() { t.subject = t.Subject }

// SubjectValue is Subject as an interface, which costs nothing after Keep.
func (t *Token) SubjectValue() any {
	if t.subject != nil {
		return t.subject
	}
	return t.Subject
}

// Claims is the claims' JSON text.
func (t *Token) Claims() string { return t.claims }

// Expires returns `exp` in milliseconds of the Unix epoch, if there is one.
func (t *Token) Expires() (int64, bool) { return t.expires, t.expires != noTime }

// Issued returns `iat` in milliseconds of the Unix epoch, if there is one.
func (t *Token) Issued() (int64, bool) { return t.issued, t.issued != noTime }

// segments finds the two dots of a compact token.
func segments(raw string, max int) (dot1, dot2 int, err error) {
	if len(raw) > max {
		return 0, 0, ErrSize
	}
	dots := 0
	for i := range len(raw) {
		switch class[raw[i]] {
		case alien:
			if raw[0] == '{' {
				return 0, 0, ErrJSONForm
			}
			return 0, 0, ErrCharset
		case dot:
			switch dots++; dots {
			case 1:
				dot1 = i
			case 2:
				dot2 = i
			}
		}
	}
	switch {
	case dots == 4:
		return 0, 0, ErrEncrypted
	case dots != 2 || dot1 == 0 || dot2 == dot1+1 || dot2 == len(raw)-1:
		return 0, 0, ErrSegments
	}
	return dot1, dot2, nil
}

const (
	alien = iota
	letter
	dot
)

var class = func() (c [256]byte) {
	for i := range len(alphabet) {
		c[alphabet[i]] = letter
	}
	c['.'] = dot
	return c
}()

// canonical says whether a segment whose characters were checked decodes: no
// lone character at its end, and no bits in the last one that belong to nothing.
func canonical(segment string) bool {
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	switch len(segment) % 4 {
	case 1:
		return false
	case 2:
		return last&0xf == 0
	case 3:
		return last&3 == 0
	}
	return true
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

var strict = base64.RawURLEncoding.Strict()

// decode decodes a segment whose characters were checked; the result is valid
// until the next use of s.
func (s *scratch) decode(segment string) ([]byte, error) {
	s.text = append(s.text[:0], segment...)
	var err error
	if s.out, err = strict.AppendDecode(s.out[:0], s.text); err != nil {
		return nil, ErrBase64
	}
	return s.out, nil
}

// registered reads the claims that RFC 7519 gives a type.
func (t *Token) registered() error {
	for i := range t.members {
		m := &t.members[i]
		name := m.name.of(t.claims)
		if m.escaped {
			name = unescape(name)
		}
		v := Value{m.value.of(t.claims)}
		ok := true
		switch name {
		case "iss":
			t.Issuer, ok = v.Text()
		case "sub":
			t.Subject, ok = v.Text()
		case "jti":
			t.ID, ok = v.Text()
		case "aud":
			t.audience, ok = v, audienceForm(v)
		case "exp":
			t.expires, ok = numericDate(v.raw)
		case "nbf":
			t.notBefore, ok = numericDate(v.raw)
		case "iat":
			t.issued, ok = numericDate(v.raw)
		}
		if !ok {
			return ErrClaimType
		}
	}
	return nil
}

// audienceForm accepts a string or a non-empty array of strings.
func audienceForm(v Value) bool {
	if _, ok := v.Text(); ok {
		return true
	}
	good, some := true, false
	array := v.Each(func(e Value) bool {
		_, ok := e.Text()
		good, some = good && ok, true
		return good
	})
	return array && good && some
}

// latest is 2^53 seconds, the last instant that every JSON reader agrees on.
const latest = 1 << 53

// numericDate reads seconds since the epoch, whole or with a fraction.
func numericDate(raw string) (milliseconds int64, ok bool) {
	if raw == "" || raw[0]-'0' > 9 {
		return 0, false // strings, null, negatives
	}
	if !strings.ContainsAny(raw, ".eE") {
		n, err := strconv.ParseInt(raw, 10, 64)
		return n * 1000, err == nil && n <= latest
	}
	f, err := strconv.ParseFloat(raw, 64)
	return int64(f * 1000), err == nil && f <= latest
}

// FromClaims returns a token whose claims somebody else vouches for, such as an
// introspection endpoint. Raw may be any text.
func FromClaims(raw, claims string) (*Token, error) {
	t := &Token{
		Header: new(Header), raw: raw, claims: claims,
		expires: noTime, notBefore: noTime, issued: noTime,
	}
	var err error
	if t.members, err = scanObject(claims, t.space[:0]); err != nil {
		return nil, err
	}
	return t, t.registered()
}
