package freshness

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// AppendSelected appends, for each of the named fields, what a request says
// in a form in which two requests that mean the same are equal (RFC 9111
// section 4.1). Names are canonical.
func AppendSelected(b []byte, names []string, h http.Header) []byte {
	for _, name := range names {
		lines := h[name]
		b = append(b, name...)
		if len(lines) == 0 {
			// An absent field matches an absent one only.
			b = append(b, '\n')
			continue
		}
		b = append(b, ':')
		from := len(b)
		switch name {
		case "Accept-Encoding":
			b = appendCodings(b, lines)
		case "Accept-Language": // tags have no case (RFC 5646 section 2.1.1)
			b = appendList(b, lines)
			lower(b[from:])
		default:
			b = appendList(b, lines)
		}
		b = append(b, '\n')
	}
	return b
}

// appendList joins the lines and drops the space around commas.
func appendList(b []byte, lines []string) []byte {
	for i, line := range lines {
		if i > 0 {
			b = append(b, ',')
		}
		if strings.IndexByte(line, '"') >= 0 || !strings.ContainsAny(line, ", ") {
			b = append(b, strings.TrimSpace(line)...)
			continue
		}
		first := true
		for part := range strings.SplitSeq(line, ",") {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, strings.TrimSpace(part)...)
		}
	}
	return b
}

// appendCodings puts Accept-Encoding in one order with one way to write a
// weight. Its order means nothing and its words have no case (RFC 9110
// section 12.5.3); the weights mean something and stay.
func appendCodings(b []byte, lines []string) []byte {
	var room [8]string
	list := room[:0]
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, coding(part))
			}
		}
	}
	slices.Sort(list)
	for i, c := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, c...)
	}
	return b
}

func coding(part string) string {
	name, params, weighted := strings.Cut(part, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	if !weighted {
		return name
	}
	key, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(params)), "=")
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	switch {
	case strings.TrimSpace(key) != "q" || err != nil || !(q >= 0 && q <= 1):
		return strings.ToLower(part) // not to be understood, so equal to itself only
	case q == 1:
		return name
	}
	return name + ";q=" + strconv.FormatFloat(q, 'f', -1, 64)
}

func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}
