package wire

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ordinary reads the head of an answer of the ordinary kind: HTTP/1.1, all of it
// at hand, one field a line of printable ASCII, and one Content-Length. It makes
// of it what http.ReadResponse would. Of anything else it takes nothing and
// returns nil, so that what is malformed is http.ReadResponse's to say.
func ordinary(br *bufio.Reader, req *http.Request, room *Room) *http.Response {
	if req.Method == http.MethodHead {
		return nil
	}
	raw, err := br.Peek(br.Buffered())
	if err != nil {
		return nil
	}
	end := bytes.Index(raw, []byte("\r\n\r\n"))
	if end < 0 {
		return nil
	}
	head := string(raw[:end])
	first, fields, _ := strings.Cut(head, "\r\n")
	status, ok := strings.CutPrefix(first, "HTTP/1.1 ")
	code := codeOf(status)
	if !ok || code < 200 || code == http.StatusNoContent || code == http.StatusNotModified || !printable(status) {
		return nil
	}
	header, length := fieldsOf(fields, room.values[:])
	if length < 0 {
		return nil
	}
	_, _ = br.Discard(end + 4)
	room.answer = http.Response{
		Status: status, StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody, ContentLength: length, Request: req,
	}
	if length > 0 {
		room.sized = sized{br, length}
		room.answer.Body = &room.sized
	}
	return &room.answer
}

// Room is where an answer of the ordinary kind lies, and what it is read with.
type Room struct {
	answer http.Response
	sized  sized
	body   body
	values [16]string // of the fields
}

// codeOf is the status code at the start of a status, zero where there is none.
func codeOf(status string) int {
	if len(status) < 3 || len(status) > 3 && status[3] != ' ' {
		return 0
	}
	code := 0
	for i := range 3 {
		if status[i] < '0' || status[i] > '9' {
			return 0
		}
		code = code*10 + int(status[i]-'0')
	}
	return code
}

// fieldsOf reads the lines of a head. The length is negative where any of them
// says more than a field does.
func fieldsOf(lines string, values []string) (header http.Header, length int64) {
	n := strings.Count(lines, "\n") + 1
	header, length = make(http.Header, n), -1
	if n > len(values) {
		values = make([]string, n)
	}
	for lines != "" {
		var line string
		line, lines, _ = strings.Cut(lines, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		if !canonical(name) {
			if !token(name) {
				return nil, -1
			}
			name = textproto.CanonicalMIMEHeaderKey(name)
		}
		value = strings.Trim(value, " \t")
		if len(name) == len(line) || !printable(value) {
			return nil, -1
		}
		switch name {
		case "Transfer-Encoding", "Trailer", "Pragma":
			return nil, -1
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return nil, -1
			}
		case "Content-Length":
			if length >= 0 {
				return nil, -1
			}
			if length = decimal(value); length < 0 {
				return nil, -1
			}
		}
		if before := header[name]; before != nil {
			header[name] = append(before, value)
			continue
		}
		values[0] = value
		header[name], values = values[:1:1], values[1:]
	}
	return header, length
}

// canonical says that name is a token in the form that http.Header has it.
func canonical(name string) bool {
	upper := true
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z':
			if upper {
				return false
			}
		case 'A' <= c && c <= 'Z':
			if !upper {
				return false
			}
		case c != '-' && (c < '0' || c > '9'):
			return false
		}
		upper = c == '-'
	}
	return name != ""
}

func token(name string) bool { return httpguts.ValidHeaderFieldName(name) }

// printable says that text holds nothing but printable ASCII and tabs.
func printable(text string) bool {
	for i := range len(text) {
		if c := text[i]; c != '\t' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

// decimal reads a length, or returns -1.
func decimal(text string) int64 {
	if text == "" || len(text) > 18 {
		return -1
	}
	var n int64
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return -1
		}
		n = n*10 + int64(text[i]-'0')
	}
	return n
}

// sized is a body of a known length. Its end comes with its last byte, and is an
// error before that.
type sized struct {
	br   *bufio.Reader
	left int64
}

func (s *sized) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.br.Read(p)
	s.left -= int64(n)
	switch {
	case err == io.EOF && s.left > 0:
		err = io.ErrUnexpectedEOF
	case err == nil && n > 0 && s.left == 0:
		err = io.EOF
	}
	return n, err
}

func (*sized) Close() error { return nil }
