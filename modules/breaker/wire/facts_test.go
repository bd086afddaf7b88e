package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// eachTransport runs a test of what both transports must do, in clear text and
// over TLS.
func eachTransport(t *testing.T, test func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn)) {
	bothWays(t, func(t *testing.T, secure bool) {
		for _, ours := range []bool{false, true} {
			t.Run(map[bool]string{false: "net-http", true: "wire"}[ours], func(t *testing.T) {
				rt, _, host, next := scene(t, secure)
				if ours {
					test(t, rt, host, next)
					return
				}
				defer rt.base.CloseIdleConnections()
				test(t, rt.base, host, next)
			})
		}
	})
}

// post is a request with the body text, which counts how often it is closed.
func post(host, text string, fields ...string) (*http.Request, *countedBody) {
	body := &countedBody{Reader: strings.NewReader(text)}
	req := to(host, request("POST", "/", body, fields...))
	req.ContentLength = int64(len(text))
	return req, body
}

type countedBody struct {
	io.Reader
	closed atomic.Int64
}

func (b *countedBody) Close() error { b.closed.Add(1); return nil }

// isClosed waits: net/http closes a body when its writer gets to it.
func (b *countedBody) isClosed(t *testing.T) {
	t.Helper()
	for began := time.Now(); b.closed.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("the body is left open")
		}
	}
}

// result is how a round trip ended.
type result struct {
	status int
	body   string
	err    error
}

func trying(rt http.RoundTripper, req *http.Request) <-chan result {
	done := make(chan result, 1)
	go func() {
		res, err := rt.RoundTrip(req)
		if err != nil {
			done <- result{err: err}
			return
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		done <- result{res.StatusCode, string(body), err}
	}()
	return done
}

// head reads the head of a request from c.
func head(t *testing.T, c net.Conn) (*http.Request, *bufio.Reader) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		t.Fatal(err)
	}
	return req, br
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func TestABodyIsKeptBackUntilItIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		name, first, then string
		sent              bool
	}{
		{"asked for", "HTTP/1.1 100 Continue\r\n\r\n", ok, true},
		{"asked for twice", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", ok, true},
		{"a hint, then asked for", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", ok, true},
		{"answered without", ok, "", true},
		{"refused, and the connection stays", "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "", true},
		{"refused, and the connection ends", "HTTP/1.1 417 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn) {
				req, body := post(host, "hello", "Expect: 100-continue")
				done := trying(rt, req)
				conn := next()
				heard, br := head(t, conn)
				if br.Buffered() > 0 {
					t.Error("the body came with the head")
				}
				say(t, conn, c.first)
				got, err := io.ReadAll(heard.Body)
				if sent := err == nil && string(got) == "hello"; sent != c.sent {
					t.Errorf("body %q, %v; to be sent: %v", got, err, c.sent)
				}
				if c.then != "" {
					say(t, conn, c.then)
				}
				if r := <-done; r.err != nil {
					t.Error(r.err)
				}
				body.isClosed(t)
			})
		})
	}
}

// TestABodyThatNobodyAsksFor is sent when the time for asking is over.
func TestABodyThatNobodyAsksFor(t *testing.T) {
	eachTransport(t, func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn) {
		if w, ours := rt.(*Transport); ours {
			w.base.ExpectContinueTimeout = time.Millisecond
		} else {
			rt.(*http.Transport).ExpectContinueTimeout = time.Millisecond
		}
		req, _ := post(host, "hello", "Expect: 100-continue")
		done := trying(rt, req)
		read(t, next(), ok)
		if r := <-done; r.err != nil || r.body != "ok" {
			t.Errorf("%+v", r)
		}
	})
}

// TestTheBodyOfARequestIsClosed however the request ends.
func TestTheBodyOfARequestIsClosed(t *testing.T) {
	broken := errors.New("the client's connection broke")
	for name, play := range map[string]func(t *testing.T, req *http.Request, body *countedBody, cancel func(), next func() net.Conn) *http.Request{
		"the upstream hangs up": func(_ *testing.T, req *http.Request, _ *countedBody, _ func(), next func() net.Conn) *http.Request {
			go func() { _ = next().Close() }()
			return req
		},
		"nobody listens": func(_ *testing.T, req *http.Request, _ *countedBody, _ func(), _ func() net.Conn) *http.Request {
			req.URL.Host = "127.0.0.1:1"
			return req
		},
		"the caller had left": func(_ *testing.T, req *http.Request, _ *countedBody, cancel func(), _ func() net.Conn) *http.Request {
			cancel()
			return req
		},
		"the body breaks": func(_ *testing.T, req *http.Request, body *countedBody, _ func(), next func() net.Conn) *http.Request {
			body.Reader = io.MultiReader(strings.NewReader("he"), failing{broken})
			go func() { _, _ = io.Copy(io.Discard, next()) }()
			return req
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				req, body := post(host, "hello")
				req = play(t, req.WithContext(ctx), body, cancel, next)
				r := <-trying(rt, req)
				if r.err == nil {
					t.Fatalf("%+v", r)
				}
				if name == "the body breaks" && !errors.Is(r.err, broken) {
					t.Errorf("error %v, want %v", r.err, broken)
				}
				body.isClosed(t)
			})
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestACallerWhoLeavesDuringTheUpload ends the connection and gets the reason.
func TestACallerWhoLeavesDuringTheUpload(t *testing.T) {
	eachTransport(t, func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn) {
		reason := errors.New("the client left")
		ctx, leave := context.WithCancelCause(t.Context())
		pr, pw := io.Pipe()
		defer pw.Close()
		req := to(host, request("POST", "/", pr)).WithContext(ctx)
		req.ContentLength = -1
		done := trying(rt, req)
		conn := next()
		_, _ = head(t, conn)
		leave(reason)
		// The upload waits for the client, whose body ends with it.
		_ = pw.CloseWithError(reason)
		if r := <-done; !errors.Is(r.err, reason) {
			t.Errorf("error %v", r.err)
		}
		gone(t, conn)
	})
}

// TestAnAnswerThatIsLeftUnread costs its connection.
func TestAnAnswerThatIsLeftUnread(t *testing.T) {
	eachTransport(t, func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn) {
		go func() {
			res, err := rt.RoundTrip(to(host, get()))
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
		}()
		conn := next()
		read(t, conn, "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\nbegins")
		gone(t, conn)
	})
}

// TestAnIdleConnectionThatTimesOut says 408, which nobody asked for: the next
// request goes over a new one.
func TestAnIdleConnectionThatTimesOut(t *testing.T) {
	eachTransport(t, func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn) {
		done := trying(rt, to(host, get()))
		first := next()
		read(t, first, ok)
		if r := <-done; r.err != nil {
			t.Fatal(r.err)
		}
		say(t, first, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		if w, ours := rt.(*Transport); ours {
			arrived(t, w.pool, host)
		} else {
			gone(t, first) // net/http has noticed
		}
		done = trying(rt, to(host, get()))
		read(t, next(), ok)
		if r := <-done; r.err != nil || r.status != http.StatusOK {
			t.Errorf("%+v", r)
		}
	})
}

// TestAnUpstreamThatHangsUpAfterEachAnswer though it promised to stay loses no GET.
func TestAnUpstreamThatHangsUpAfterEachAnswer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		o := newOrigin(t, secure, true)
		o.echo = true
		pool := NewPool(8, time.Minute)
		rt := New(dialer(), pool)
		for range 100 {
			req := to(o.Addr().String(), get())
			if secure {
				req.URL.Scheme = "https"
			}
			if r := <-trying(rt, req); r.err != nil {
				t.Errorf("TLS %v: %v", secure, r.err)
			}
		}
		pool.Close()
	}
}

// TestHintsThatNobodyHears count to the limit of the head; those that somebody
// hears are his to bound.
func TestHintsThatNobodyHears(t *testing.T) {
	hints := strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat("a", 1000)+"\r\n\r\n", 100) + ok
	eachTransport(t, func(t *testing.T, rt http.RoundTripper, host string, next func() net.Conn) {
		done := trying(rt, to(host, get()))
		go func() {
			c := next()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, hints)
			}
		}()
		if r := <-done; r.err == nil || !strings.Contains(r.err.Error(), "exceeded 16384 bytes") {
			t.Errorf("%+v", r)
		}
	})
	both(t, false, []func() *http.Request{get, get}, hints, ok) // both hear of them
}

// TestWhatIsLeftToNetHTTP is refused by Does, errors included: they are net/http's.
func TestWhatIsLeftToNetHTTP(t *testing.T) {
	rt := New(dialer(), NewPool(1, 0))
	for name, set := range map[string]func(*http.Request){
		"no host":                   func(r *http.Request) { r.URL.Host = "" },
		"another scheme":            func(r *http.Request) { r.URL.Scheme = "ftp" },
		"CONNECT":                   func(r *http.Request) { r.Method = "CONNECT" },
		"a method that is none":     func(r *http.Request) { r.Method = "GE T" },
		"an opaque address":         func(r *http.Request) { r.URL.Opaque = "//x/y" },
		"a name with a space":       func(r *http.Request) { r.Header["X A"] = []string{"1"} },
		"a value with a line break": func(r *http.Request) { r.Header["X-A"] = []string{"1\r\nX-Evil: 1"} },
		"a host with a line break":  func(r *http.Request) { r.Host = "x\r\nX-Evil: 1" },
		"a host beyond ASCII":       func(r *http.Request) { r.Host = "bücher.example" },
		"an upgrade":                func(r *http.Request) { r.Header["Upgrade"] = []string{"websocket"} },
		"a length without a body":   func(r *http.Request) { r.ContentLength = 5 },
		"an unknown coding":         func(r *http.Request) { r.TransferEncoding = []string{"gzip"} },
		"a body to be guessed":      func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), -1 },
		"an unknown expectation":    func(r *http.Request) { r.Header["Expect"] = []string{"miracles"} },
		"a trailer that frames":     func(r *http.Request) { r.Trailer = http.Header{"Content-Length": nil} },
		"a trailer that is none":    func(r *http.Request) { r.Trailer = http.Header{"X A": nil} },
	} {
		req := to("x", get())
		if set(req); rt.Does(req) {
			t.Errorf("%s: done", name)
		}
	}
}
