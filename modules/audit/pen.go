package audit

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// pen writes JSON by appending, without reflection: a request pays for its
// event with a copy and no allocation.
type pen struct{ b []byte }

func (p *pen) comma() {
	if n := len(p.b); n > 0 && p.b[n-1] != '{' && p.b[n-1] != '[' {
		p.b = append(p.b, ',')
	}
}

// key writes the name of the next member. Names are ours and need no escaping.
func (p *pen) key(name string) {
	p.comma()
	p.b = append(p.b, '"')
	p.b = append(p.b, name...)
	p.b = append(p.b, '"', ':')
}

func (p *pen) open(name string) {
	if name == "" {
		p.comma()
	} else {
		p.key(name)
	}
	p.b = append(p.b, '{')
}

func (p *pen) end() { p.b = append(p.b, '}') }

func (p *pen) list(name string) {
	p.key(name)
	p.b = append(p.b, '[')
}

func (p *pen) endList() { p.b = append(p.b, ']') }

// text writes a member unless its value is empty.
func (p *pen) text(name, value string) {
	if value == "" {
		return
	}
	p.key(name)
	p.b = appendString(p.b, value)
}

// item writes an element of a list.
func (p *pen) item(value string) {
	p.comma()
	p.b = appendString(p.b, value)
}

// labelled writes a member whose name comes from outside.
func (p *pen) labelled(name, value string) {
	p.comma()
	p.b = appendString(p.b, name)
	p.b = append(p.b, ':')
	p.b = appendString(p.b, value)
}

func (p *pen) num(name string, value int64) {
	p.key(name)
	p.b = strconv.AppendInt(p.b, value, 10)
}

func (p *pen) raw(name, value string) {
	p.key(name)
	p.b = append(p.b, value...)
}

// instant writes a time as an event's own is written.
func (p *pen) instant(name string, at time.Time) {
	p.key(name)
	p.b = append(appendInstant(append(p.b, '"'), at), '"')
}

// appendInstant appends RFC 3339 in UTC with microseconds, as CloudEvents wants
// it. AppendFormat would read the layout anew for each event.
func appendInstant(b []byte, at time.Time) []byte {
	at = at.UTC()
	year, month, day := at.Date()
	hour, minute, second := at.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), at.Nanosecond()/1000, 6)
	return append(b, 'Z')
}

// appendDigits appends the last n decimal digits of v.
func appendDigits(b []byte, v, n int) []byte {
	var d [6]byte
	for i := n - 1; i >= 0; i-- {
		d[i] = byte('0' + v%10)
		v /= 10
	}
	return append(b, d[:n]...)
}

// maxField is how much of one value an event holds; a client decides how long
// its path is, and must not decide how long our events are.
const maxField = 4 << 10

const cutMark = "…"

// appendString appends s as a JSON string: control characters escaped, invalid
// UTF-8 replaced, cut after maxField bytes.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	cut := len(s) > maxField
	if cut {
		s = s[:maxField]
	}
	b = append(b, '"')
	for i := 0; i < len(s); {
		plain := i
		for i < len(s) && s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\' {
			i++
		}
		b = append(b, s[plain:i]...)
		if i == len(s) {
			break
		}
		if c := s[i]; c < utf8.RuneSelf {
			if c == '"' || c == '\\' {
				b = append(b, '\\', c)
			} else {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1, r >= 0x80 && r < 0xa0, r == '\u2028', r == '\u2029':
			// What a terminal or a log viewer would act upon is no text.
			b = append(b, `\ufffd`...)
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	if cut {
		b = append(b, cutMark...)
	}
	return append(b, '"')
}
