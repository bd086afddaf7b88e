package wire

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// FuzzAnswers gives the same bytes to net/http's transport and to this one.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{ok, "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: v\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nend", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + zipped("hello")} {
		f.Add([]byte(s), "GET", false)
		f.Add([]byte(s), "HEAD", true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, method string, secure bool) {
		if method != "GET" && method != "HEAD" && method != "POST" {
			method = "GET"
		}
		if bytes.Contains(answer, []byte(" 101")) || bytes.Contains(answer, []byte("RESET")) || bytes.HasPrefix(answer, []byte("CUT ")) {
			t.Skip("upgrades are not done here")
		}
		compare(t, secure, true, []func() *http.Request{func() *http.Request { return request(method, "/", nil) }}, string(answer))
	})
}

// FuzzRequests lets both send the same request.
func FuzzRequests(f *testing.F) {
	f.Add("GET", "/a?b=c", "shop.example", "X-A", "1", "", "", uint8(0))
	f.Add("POST", "/", "[::1]:80", "Connection", "close", "body", "", uint8(1))
	f.Add("PUT", "//x/%2f", "", "Accept-Encoding", "br", "body", "", uint8(2))
	f.Add("POST", "/", "shop.example", "Expect", "100-continue", "body", "sum", uint8(3))
	f.Fuzz(func(t *testing.T, method, target, host, name, value, body, trailer string, how uint8) {
		make := func() *http.Request {
			req, err := http.NewRequest(method, "http://x/", nil)
			if err != nil {
				return nil
			}
			req.Host = host
			req.URL.Path, req.URL.RawQuery, _ = strings.Cut(target, "?")
			req.Header[name] = []string{value}
			if body != "" {
				req.Body, req.ContentLength = nopBody{strings.NewReader(body)}, int64(len(body))
				if how&1 != 0 {
					req.ContentLength = -1
				}
				if trailer != "" {
					req.Trailer = http.Header{"X-Trailer": {trailer}}
				}
			}
			return req
		}
		req := make()
		if req == nil {
			t.Skip("not a request")
		}
		if !New(dialer(), NewPool(1, 0)).Does(req) {
			t.Skip("net/http sends it")
		}
		compare(t, how&2 != 0, false, []func() *http.Request{make}, ok)
	})
}

type nopBody struct{ *strings.Reader }

func (nopBody) Close() error { return nil }

// TestManyCallersShareOnePool has callers that stay, leave and read half, and
// looks for answers in the wrong hands.
func TestManyCallersShareOnePool(t *testing.T) {
	o := newOrigin(t, false, false)
	o.echo = true
	pool := NewPool(8, time.Minute)
	defer pool.Close()
	rt := New(dialer(), pool)
	var all sync.WaitGroup
	for caller := range 16 {
		all.Go(func() {
			for i := range 60 {
				want := fmt.Sprintf("/%d/%d", caller, i)
				req := to(o.Addr().String(), request("GET", want, nil))
				res, err := rt.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				got := bytes.NewBuffer(nil)
				if i%7 == 3 {
					_, _ = got.ReadFrom(&oneByte{res.Body})
				} else if _, err = got.ReadFrom(res.Body); err != nil || got.String() != want {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
				_ = res.Body.Close()
			}
		})
	}
	all.Wait()
}
