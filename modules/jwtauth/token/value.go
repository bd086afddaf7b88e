package token

import (
	"encoding/json"
	"strings"
	"unicode/utf16"
)

// Value is one JSON value of a scanned text, as it is written there.
type Value struct{ raw string }

// Raw is the value as the token writes it.
func (v Value) Raw() string { return v.raw }

// Text returns a string value.
func (v Value) Text() (string, bool) {
	if len(v.raw) < 2 || v.raw[0] != '"' {
		return "", false
	}
	inner := v.raw[1 : len(v.raw)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner, true
	}
	return unescape(inner), true
}

// Scalar returns a string, number, true or false as text; of a number, the
// digits as they are written.
func (v Value) Scalar() (string, bool) {
	if v.raw == "" {
		return "", false
	}
	switch v.raw[0] {
	case '"':
		return v.Text()
	case '{', '[', 'n':
		return "", false
	}
	return v.raw, true
}

// Each calls see with each element of an array until see returns false. It
// reports whether the value is an array.
func (v Value) Each(see func(Value) bool) bool {
	if v.raw == "" || v.raw[0] != '[' {
		return false
	}
	for at := blank(v.raw, 1); v.raw[at] != ']'; {
		end := skip(v.raw, at)
		if !see(Value{v.raw[at:end]}) {
			break
		}
		if at = blank(v.raw, end); v.raw[at] == ',' {
			at = blank(v.raw, at+1)
		}
	}
	return true
}

// Members calls see with each member of an object until see returns false. It
// reports whether the value is an object.
func (v Value) Members(see func(name string, value Value) bool) bool {
	if v.raw == "" || v.raw[0] != '{' {
		return false
	}
	for at := blank(v.raw, 1); v.raw[at] != '}'; {
		nameEnd := skip(v.raw, at)
		from := blank(v.raw, blank(v.raw, nameEnd)+1)
		end := skip(v.raw, from)
		if !see(unescape(v.raw[at+1:nameEnd-1]), Value{v.raw[from:end]}) {
			break
		}
		if at = blank(v.raw, end); v.raw[at] == ',' {
			at = blank(v.raw, at+1)
		}
	}
	return true
}

// member returns the value of one member of an object.
func (v Value) member(name string) (found Value, ok bool) {
	v.Members(func(n string, value Value) bool {
		if n == name {
			found, ok = value, true
		}
		return !ok
	})
	return found, ok
}

// skip returns where the value at text[at] ends. The text was scanned before,
// so only its outline matters.
func skip(text string, at int) int {
	depth := 0
	for ; at < len(text); at++ {
		switch text[at] {
		case '"':
			for at++; text[at] != '"'; at++ {
				if text[at] == '\\' {
					at++
				}
			}
			if depth == 0 {
				return at + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at // ends a number or a word
			}
			if depth--; depth == 0 {
				return at + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return at
			}
		}
	}
	return at
}

// blank returns where the white space at text[at] ends.
func blank(text string, at int) int {
	for text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r' {
		at++
	}
	return at
}

func sameName(written string, escaped bool, name string) bool {
	if escaped {
		return unescape(written) == name
	}
	return written == name
}

// Any returns the value as Go knows it: string, json.Number, bool, nil,
// []any or map[string]any.
func (v Value) Any() any {
	if text, ok := v.Text(); ok {
		return text
	}
	dec := json.NewDecoder(strings.NewReader(v.raw))
	dec.UseNumber()
	var out any
	if dec.Decode(&out) != nil {
		return nil
	}
	return out
}

// unescape undoes the escapes of a string that was scanned before.
func unescape(s string) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for {
		b.WriteString(s[:i])
		switch c := s[i+1]; c {
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, _ := hex4(s[i+2:])
			i += 4
			if utf16.IsSurrogate(r) {
				low, _ := hex4(s[i+4:])
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			b.WriteRune(r)
		default:
			b.WriteByte(c)
		}
		s = s[i+2:]
		if i = strings.IndexByte(s, '\\'); i < 0 {
			b.WriteString(s)
			return b.String()
		}
	}
}
