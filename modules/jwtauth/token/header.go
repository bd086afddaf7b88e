package token

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Header is what a token says about itself, as far as it is listened to.
type Header struct {
	// Algorithm is `alg`.
	Algorithm Algorithm
	// KeyID is `kid`, empty when absent.
	KeyID string
	// Type is `typ` in lower case without `application/`, empty when absent.
	Type string

	// brings says that the header may bring its own key, and key is that key:
	// only a proof of possession does.
	brings bool
	key    string
}

const (
	maxHeader = 4 << 10
	maxKeyID  = 256
)

// parseHeader reads the first segment.
func parseHeader(s *scratch, segment string) (*Header, error) {
	if h := headers.get(segment); h != nil {
		return h, nil
	}
	return new(Header).read(s, segment)
}

func (h *Header) read(s *scratch, segment string) (*Header, error) {
	if len(segment) > maxHeader {
		return nil, ErrSize
	}
	decoded, err := s.decode(segment)
	if err != nil {
		return nil, err
	}
	text := string(decoded)
	var space [16]member
	members, err := scanObject(text, space[:0])
	if err != nil {
		if err == ErrJSON {
			err = ErrHeader
		}
		return nil, err
	}
	for _, m := range members {
		name := m.name.of(text)
		if m.escaped {
			name = unescape(name)
		}
		if err := h.set(name, Value{m.value.of(text)}); err != nil {
			return nil, err
		}
	}
	if h.Algorithm == 0 {
		return nil, ErrAlgorithm
	}
	return h, nil
}

func (h *Header) set(name string, v Value) error {
	text, isText := v.Text()
	switch name {
	case "alg":
		if h.Algorithm = ParseAlgorithm(text); h.Algorithm == 0 {
			return ErrAlgorithm
		}
	case "kid":
		if !isText || !printable(text) || len(text) > maxKeyID {
			return ErrKeyID
		}
		h.KeyID = text
	case "typ":
		if !isText {
			return ErrHeader
		}
		h.Type = MediaType(text)
	case "cty":
		// RFC 7519 section 5.2: a nested token says so here.
		if !isText || MediaType(text) == "jwt" {
			return ErrNested
		}
	case "crit", "b64", "zip":
		return ErrCritical
	case "enc":
		return ErrEncrypted
	case "jwk":
		if !h.brings {
			return ErrHeaderKey
		}
		h.key = v.raw
	case "jku", "x5u":
		return ErrHeaderKey
	}
	return nil
}

// MediaType is typ as RFC 8725bis compares it: any case, with or without the
// `application/` that compact tokens leave out.
func MediaType(typ string) string {
	typ = strings.ToLower(typ)
	if rest, ok := strings.CutPrefix(typ, "application/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return typ
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// headers remembers parsed headers by their segment: the tokens of one key
// carry the same one. Only headers of verified tokens enter, so a stranger
// cannot fill it.
var headers interned

const maxInterned = 1024

type interned struct {
	mu    sync.Mutex // guards replacing table
	table atomic.Pointer[map[string]*Header]
}

func (in *interned) get(segment string) *Header {
	if table := in.table.Load(); table != nil {
		return (*table)[segment]
	}
	return nil
}

// Remember keeps the header of a token whose signature was verified.
func (t *Token) Remember() {
	segment := t.raw[:strings.IndexByte(t.raw, '.')]
	if headers.get(segment) != nil {
		return
	}
	headers.mu.Lock()
	defer headers.mu.Unlock()
	next := map[string]*Header{strings.Clone(segment): t.Header}
	if old := headers.table.Load(); old != nil && len(*old) < maxInterned {
		for s, h := range *old {
			next[s] = h
		}
	}
	headers.table.Store(&next)
}
