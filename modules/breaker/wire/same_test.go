package wire

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

// TestAnswersAreWhatNetHTTPMakesOfThem sends a request, then a plain one that
// shows whether the connection was kept.
func TestAnswersAreWhatNetHTTPMakesOfThem(t *testing.T) {
	for name, script := range map[string]string{
		"length":              "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello",
		"chunked":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"chunk extension":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
		"trailers":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nhi\r\n0\r\nX-T: v\r\n\r\n",
		"no body":             "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
		"not modified":        "HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\nContent-Length: 10\r\n\r\n",
		"length 0":            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"asks to close":       "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"1.0 keep-alive":      "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"1.0":                 "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"early hints":         "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ok,
		"zipped":              "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(zipped("hello")),
		"zipped, in capitals": "HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
		"zipped, torn":        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(zipped("hello")[:9]),
		"zipped twice":        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(zipped(zipped("hello"))),
		"304 in chunks":       "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
		"204 in chunks":       "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"no status":           "HTTP/1.1 \r\nContent-Length: 2\r\n\r\nok",
		"length with a sign":  "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"no reason":           "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
		"equal lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"folded field":        "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
		"bare line feeds":     "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"two lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"length and chunked":  "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"negative length":     "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
		"unknown coding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: squeezed\r\n\r\nok",
		"no protocol":         "hello\r\n\r\n",
		"status of letters":   "HTTP/1.1 abc OK\r\n\r\n",
		"field without colon": "HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
		"space before colon":  "HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 2\r\n\r\nok",
		"bare CR":             "HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 2\r\n\r\nok",
		"NUL":                 "HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 2\r\n\r\nok",
		"head too long":       "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 40<<10) + "\r\nContent-Length: 2\r\n\r\nok",
		"bad chunk size":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
		"chunk too long":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
		"long body":           "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
	} {
		t.Run(name, func(t *testing.T) {
			both(t, false, []func() *http.Request{get, get}, script, ok)
		})
	}
}

func chunk(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(9, len(s))
		b.WriteString(string("0123456789"[n]) + "\r\n" + s[:n] + "\r\n")
		s = s[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func TestAnswersThatBreakOff(t *testing.T) {
	for name, script := range map[string]string{
		"nothing":       "",
		"in the status": "HTTP/1.1 20",
		"in the head":   "HTTP/1.1 200 OK\r\nX-A: 1\r\n",
		"in the body":   "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell",
		"in a chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhell",
		"between":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n",
		"by design":     "HTTP/1.1 200 OK\r\n\r\nuntil the end",
		"after a hint":  "HTTP/1.1 103 Early Hints\r\n\r\n",
		"reset":         "RESET",
		"no goodbye":    "CUT " + "HTTP/1.1 200 OK\r\n\r\nuntil the end",
		"cut in a body": "CUT " + "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell",
	} {
		t.Run(name, func(t *testing.T) {
			both(t, true, []func() *http.Request{get, get}, script, ok)
		})
	}
}

func TestRequestsAreSentByteForByteAlike(t *testing.T) {
	sized := func(method string, n int) func() *http.Request {
		return func() *http.Request {
			r := request(method, "/up", io.MultiReader(strings.NewReader(strings.Repeat("b", n))))
			r.ContentLength = int64(n)
			return r
		}
	}
	stream := func(text string) func() *http.Request {
		return func() *http.Request {
			r := request("POST", "/up", struct{ io.Reader }{strings.NewReader(text)})
			r.ContentLength = -1
			return r
		}
	}
	plain := func(method, target string, fields ...string) func() *http.Request {
		return func() *http.Request { return request(method, target, nil, fields...) }
	}
	trailer := func(value string, announced bool, fields ...string) func() *http.Request {
		return func() *http.Request {
			trailer := http.Header{}
			if announced {
				trailer["X-Sum"], trailer["x-more"] = nil, nil
			}
			r := request("POST", "/up", &ending{Reader: strings.NewReader("hello"), end: func() {
				trailer["X-Sum"] = []string{value, "2"}
			}}, fields...)
			r.ContentLength, r.Trailer = -1, trailer
			return r
		}
	}
	closing := func() *http.Request { r := get(); r.Close = true; return r }
	nameless := func() *http.Request { r := get(); r.Host = ""; r.Method = ""; return r }
	silent := func() *http.Request { r := get(); r.Header["User-Agent"] = nil; return r }
	for name, r := range map[string]func() *http.Request{
		"get": get, "close": closing, "no host": nameless, "no agent": silent,
		"head":   plain("HEAD", "/"),
		"post 0": plain("POST", "/x", "X-B: 2", "X-A: 1", "X-A: 0"), "put 0": plain("PUT", "/"), "patch 0": plain("PATCH", "/"),
		"delete 0": plain("DELETE", "/"), "own method": plain("PURGE", "/"),
		"agent": plain("GET", "/", "User-Agent: me/1  "), "encoding": plain("GET", "/", "Accept-Encoding: br"), "range": plain("GET", "/", "Range: bytes=0-1"),
		"spaces": plain("GET", "/", "X-A:    a b\t "), "escapes": plain("GET", "/a%2Fb%20c/?q=%41"), "empty path": plain("GET", ""), "only query": plain("GET", "?a"),
		"long": plain("GET", "/"+strings.Repeat("l", 9000), "X-A: "+strings.Repeat("v", 9000)),
		"body": sized("POST", 10), "body of put": sized("PUT", 100_000), "body of get": sized("GET", 3), "body of delete": sized("DELETE", 3),
		"stream": stream("hello"), "long stream": stream(strings.Repeat("s", 100_000)), "empty stream": stream(""),
		"trailer": trailer("1", true), "trailer unannounced": trailer("1", false), "trailer of two lines": trailer("1\r\nX-Evil: 2", true),
		"expectation": expecting(sized("POST", 100_000)), "expectation of a stream": expecting(stream("hello")),
		"expectation and trailer": trailer("1", true, "Expect: 100-continue"), "expectation, other case": expecting(sized("PUT", 5), "100-Continue"),
	} {
		t.Run(name, func(t *testing.T) {
			answer := ok
			if name == "head" {
				answer = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
			}
			both(t, false, []func() *http.Request{r, get}, answer, ok)
		})
	}
}

func expecting(r func() *http.Request, word ...string) func() *http.Request {
	return func() *http.Request {
		req := r()
		req.Header["Expect"] = append(word, "100-continue")[:1]
		return req
	}
}

// ending is a body that calls end at its end, as a server's does to tell the trailer.
type ending struct {
	io.Reader
	end func()
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err == io.EOF {
		e.end()
	}
	return n, err
}

// TestABodyShorterThanTold compares the errors only: how much of such a request
// the upstream has heard by then is chance.
func TestABodyShorterThanTold(t *testing.T) {
	o := newOrigin(t, false, false)
	make := func() *http.Request {
		r := request("POST", "/", struct{ io.Reader }{strings.NewReader("seven b")})
		r.ContentLength = 9
		return r
	}
	want := trip(t, dialer(), o, make)
	got := trip(t, New(dialer(), NewPool(1, 0)), o, make)
	for range 100 {
		// net/http's writer and reader meet the end in either order.
		if want.Err != "connection lost" {
			break
		}
		want = trip(t, dialer(), o, make)
	}
	if got.Err != want.Err || want.Err == "" {
		t.Errorf("error %q, want %q", got.Err, want.Err)
	}
}
