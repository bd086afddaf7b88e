package token

import (
	"sync"
	"unicode/utf8"
)

// Limits of the JSON that a token may hold. They bound the work that a token
// costs before its signature is known to be good.
const (
	maxDepth     = 16  // nested objects and arrays
	maxTop       = 64  // members of the outermost object
	maxPerObject = 256 // members of any one object
	maxMembers   = 512 // members altogether
	maxName      = 256 // bytes of a member's name, as written
)

// span is a part of the scanned text.
type span struct{ from, to uint32 }

func (s span) of(text string) string { return text[s.from:s.to] }

// member is one member of the outermost object.
type member struct {
	name, value span
	// escaped says that the name is written with escapes.
	escaped bool
}

// scanner checks in one pass that a text is exactly one JSON object: RFC 8259
// grammar, valid UTF-8, no lone surrogates, no member named twice at any depth
// (names compared after unescaping), within the limits.
type scanner struct {
	text    string
	at      int
	members int
	// names holds the names of all objects that are open, innermost last.
	names []name
	space [48]name
}

type name struct {
	span
	escaped bool
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}

// scanObject appends the members of the one object that text holds.
func scanObject(text string, into []member) ([]member, error) {
	s := scanners.Get().(*scanner)
	defer scanners.Put(s)
	s.text, s.at, s.members, s.names = text, 0, 0, s.space[:0]
	into, err := s.only(into)
	s.text, s.names = "", nil // the pool must not keep the token alive
	return into, err
}

func (s *scanner) only(into []member) ([]member, error) {
	text := s.text
	s.blank()
	if s.at >= len(text) || text[s.at] != '{' {
		return into, ErrJSON
	}
	into, err := s.object(1, into, true)
	if err != nil {
		return into, err
	}
	s.blank()
	if s.at != len(text) {
		return into, ErrJSON
	}
	return into, nil
}

func (s *scanner) blank() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// next skips blanks and returns the byte that follows, or zero at the end.
func (s *scanner) next() byte {
	s.blank()
	if s.at >= len(s.text) {
		return 0
	}
	return s.text[s.at]
}

func (s *scanner) object(depth int, into []member, keep bool) ([]member, error) {
	if depth > maxDepth {
		return into, ErrLimits
	}
	outer := len(s.names)
	s.at++ // {
	if s.next() == '}' {
		s.at++
		return into, nil
	}
	for {
		n, err := s.name(outer)
		if err != nil {
			return into, err
		}
		if s.next() != ':' {
			return into, ErrJSON
		}
		s.at++
		s.blank()
		from := s.at
		if err := s.value(depth); err != nil {
			return into, err
		}
		if keep {
			if len(into) == maxTop {
				return into, ErrLimits
			}
			into = append(into, member{n.span, span{uint32(from), uint32(s.at)}, n.escaped})
		}
		switch s.next() {
		case ',':
			s.at++
		case '}':
			s.at++
			s.names = s.names[:outer]
			return into, nil
		default:
			return into, ErrJSON
		}
	}
}

// name reads a member's name and compares it with the earlier ones of the
// object whose names begin at outer.
func (s *scanner) name(outer int) (name, error) {
	if s.next() != '"' {
		return name{}, ErrJSON
	}
	from := s.at + 1
	escaped, err := s.string()
	if err != nil {
		return name{}, err
	}
	n := name{span{uint32(from), uint32(s.at - 1)}, escaped}
	if s.members++; s.members > maxMembers || len(s.names)-outer >= maxPerObject || s.at-from > maxName {
		return n, ErrLimits
	}
	text := n.of(s.text)
	for _, o := range s.names[outer:] {
		if o.escaped || escaped {
			if unescape(o.of(s.text)) == unescape(text) {
				return n, ErrDuplicate
			}
		} else if o.of(s.text) == text {
			return n, ErrDuplicate
		}
	}
	s.names = append(s.names, n)
	return n, nil
}

func (s *scanner) value(depth int) error {
	if s.at >= len(s.text) {
		return ErrJSON
	}
	switch c := s.text[s.at]; c {
	case '{':
		_, err := s.object(depth+1, nil, false)
		return err
	case '[':
		return s.array(depth + 1)
	case '"':
		_, err := s.string()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scanner) array(depth int) error {
	if depth > maxDepth {
		return ErrLimits
	}
	s.at++ // [
	if s.next() == ']' {
		s.at++
		return nil
	}
	for {
		s.blank()
		if err := s.value(depth); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		default:
			return ErrJSON
		}
	}
}

func (s *scanner) word(w string) error {
	if len(s.text)-s.at < len(w) || s.text[s.at:s.at+len(w)] != w {
		return ErrJSON
	}
	s.at += len(w)
	return nil
}

// number reads -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (s *scanner) number() error {
	s.skip('-')
	if !s.skip('0') && !s.digits() {
		return ErrJSON
	}
	if s.skip('.') && !s.digits() {
		return ErrJSON
	}
	if s.skip('e') || s.skip('E') {
		if !s.skip('+') {
			s.skip('-')
		}
		if !s.digits() {
			return ErrJSON
		}
	}
	return nil
}

func (s *scanner) skip(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.text) && s.text[s.at]-'0' <= 9 {
		s.at++
	}
	return s.at > from
}

// string reads a string that begins at the current quote.
func (s *scanner) string() (escaped bool, err error) {
	s.at++ // "
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return escaped, nil
		case c == '\\':
			escaped = true
			if !s.escape() {
				return escaped, ErrJSON
			}
		case c < ' ':
			return escaped, ErrJSON
		case c < utf8.RuneSelf:
			s.at++
		default:
			r, size := utf8.DecodeRuneInString(s.text[s.at:])
			if r == utf8.RuneError && size == 1 {
				return escaped, ErrJSON
			}
			s.at += size
		}
	}
	return escaped, ErrJSON
}

// escape reads one escape; a surrogate needs its other half.
func (s *scanner) escape() bool {
	if s.at+1 >= len(s.text) {
		return false
	}
	switch s.text[s.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at += 2
		return true
	case 'u':
		r, ok := hex4(s.text[s.at+2:])
		if !ok {
			return false
		}
		s.at += 6
		if r < 0xD800 || r > 0xDFFF {
			return true
		}
		if r > 0xDBFF || len(s.text)-s.at < 6 || s.text[s.at] != '\\' || s.text[s.at+1] != 'u' {
			return false
		}
		low, ok := hex4(s.text[s.at+2:])
		s.at += 6
		return ok && low >= 0xDC00 && low <= 0xDFFF
	}
	return false
}

func hex4(text string) (r rune, ok bool) {
	if len(text) < 4 {
		return 0, false
	}
	for i := range 4 {
		c := text[i]
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
