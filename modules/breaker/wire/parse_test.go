package wire

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// reading is all that a parser makes of an answer, and what it leaves unread.
func reading(res *http.Response, br *bufio.Reader) string {
	body, err := io.ReadAll(res.Body)
	rest, _ := io.ReadAll(br)
	return fmt.Sprintf("%q %d %q %d %d %v %d %v %v %v %q %v %q",
		res.Status, res.StatusCode, res.Proto, res.ProtoMajor, res.ProtoMinor, res.Header, res.ContentLength, res.Close, res.TransferEncoding, res.Trailer, body, err, rest)
}

// parsed compares ordinary with http.ReadResponse. It says whether the answer is
// of the kind that ordinary reads.
func parsed(t *testing.T, answer, method string) bool {
	t.Helper()
	req := request(method, "/", nil)
	br := bufio.NewReader(strings.NewReader(answer))
	_, _ = br.Peek(1)
	before := br.Buffered()
	res := ordinary(br, req, new(Room))
	if res == nil {
		if br.Buffered() != before {
			t.Errorf("%q: not read, but some of it is taken", answer)
		}
		return false
	}
	theirs := bufio.NewReader(strings.NewReader(answer))
	want, err := http.ReadResponse(theirs, req)
	if err != nil {
		t.Errorf("%q: read, but net/http says %v", answer, err)
		return true
	}
	if got, want := reading(res, br), reading(want, theirs); got != want {
		t.Errorf("%q:\n got  %s\n want %s", answer, got, want)
	}
	return true
}

var plainAnswers = []string{
	ok,
	"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\nhello, world!",
	"HTTP/1.1 404\r\nx-a:1\r\nX-A: \t 2 \t\r\netag: \"a:b\"\r\nx_b.c: 3\r\nContent-Length:0\r\n\r\n",
	"HTTP/1.1 500 Own reason \r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nWWW-Authenticate: x\r\nX-1a-B: \r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
}

// TestOrdinaryAnswersAreReadAsNetHTTPReadsThem changes each byte of some answers
// into each of those that mean something, puts them before it, and leaves it out.
func TestOrdinaryAnswersAreReadAsNetHTTPReadsThem(t *testing.T) {
	for _, answer := range plainAnswers {
		if !parsed(t, answer, "GET") {
			t.Errorf("%q is not ordinary", answer)
		}
		if parsed(t, answer, "HEAD") {
			t.Errorf("%q: the answer to HEAD has no body", answer)
		}
		for i := range answer {
			for _, c := range "\r\n\t :;-_,+019aZ~\"\x00\x7f\xff" {
				parsed(t, answer[:i]+string(byte(c))+answer[i+1:], "GET")
				parsed(t, answer[:i]+string(byte(c))+answer[i:], "GET")
			}
			parsed(t, answer[:i]+answer[i+1:], "GET")
			parsed(t, answer[:i], "GET")
		}
	}
}

func TestWhatIsNotOrdinary(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.0 200 OK\r\nContent-Length: 2", "HTTP/1.1 204 No\r\nContent-Length: 0", "HTTP/1.1 304 No\r\nContent-Length: 0", "HTTP/1.1 103 Hints\r\nContent-Length: 0",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2", "HTTP/1.1 200 OK\r\nX: y",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nPragma: no-cache", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTrailer: X",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n b", "HTTP/1.1 200 OK\r\nContent-Length: +2", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
	} {
		if parsed(t, head+"\r\n\r\nok", "GET") {
			t.Errorf("%q is read as ordinary", head)
		}
	}
}

// FuzzOrdinary goes on with it.
func FuzzOrdinary(f *testing.F) {
	for _, answer := range plainAnswers {
		f.Add(answer, "GET")
	}
	f.Fuzz(func(t *testing.T, answer, method string) {
		if method != "HEAD" && method != "POST" {
			method = "GET"
		}
		parsed(t, answer, method)
	})
}
