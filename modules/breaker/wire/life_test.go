package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// scene is an origin whose connections the test plays itself.
func scene(t *testing.T, secure bool) (rt *Transport, pool *Pool, host string, next func() net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !secure {
				conns <- c
				continue
			}
			go func() {
				s := tls.Server(c, serverTLS())
				if s.Handshake() == nil {
					conns <- s
				}
			}()
		}
	}()
	pool = NewPool(4, time.Minute)
	t.Cleanup(func() {
		pool.Close()
		_ = l.Close()
	})
	if host = l.Addr().String(); secure {
		host = "https://" + host
	}
	return New(dialer(), pool), pool, host, func() net.Conn {
		t.Helper()
		select {
		case c := <-conns:
			t.Cleanup(func() { _ = c.Close() })
			return c
		case <-time.After(30 * time.Second):
			t.Fatal("nobody connected")
			return nil
		}
	}
}

// bothWays runs a test in clear text and over TLS.
func bothWays(t *testing.T, test func(t *testing.T, secure bool)) {
	t.Run("clear", func(t *testing.T) { test(t, false) })
	t.Run("TLS", func(t *testing.T) { test(t, true) })
}

// to sends the request to host, which has "https://" before it where TLS is to be
// used.
func to(host string, r *http.Request) *http.Request {
	if r.URL.Host = strings.TrimPrefix(host, "https://"); r.URL.Host != host {
		r.URL.Scheme = "https"
	}
	return r
}

// place is where the pool keeps the connections to host.
func place(host string) spot {
	if at, ok := strings.CutPrefix(host, "https://"); ok {
		return spot{at, 1}
	}
	return spot{host: host}
}

// read takes one request from c and answers.
func read(t *testing.T, c net.Conn, answer string) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		t.Errorf("read the request: %v", err)
		return
	}
	_, _ = io.Copy(io.Discard, req.Body)
	if _, err := io.WriteString(c, answer); err != nil {
		t.Errorf("answer: %v", err)
	}
}

// gone waits until the other side has closed c.
func gone(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection stays: %v", err)
	}
}

func get2xx(t *testing.T, rt http.RoundTripper, r *http.Request) {
	t.Helper()
	res, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

func TestACallerWhoLeavesEndsTheConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		for _, when := range []string{"before the head", "in the body"} {
			t.Run(when, func(t *testing.T) {
				rt, _, host, next := scene(t, secure)
				reason := errors.New("the client left")
				ctx, leave := context.WithCancelCause(t.Context())
				ended := make(chan error, 1)
				head := make(chan struct{})
				go func() {
					res, err := rt.RoundTrip(to(host, get()).WithContext(ctx))
					if err == nil {
						close(head)
						_, err = io.Copy(io.Discard, res.Body)
					}
					ended <- err
				}()
				c := next()
				if when == "in the body" {
					read(t, c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
					<-head
				}
				leave(reason)
				if err := <-ended; !errors.Is(err, reason) {
					t.Errorf("error %v, want %v", err, reason)
				}
				gone(t, c)
			})
		}
	})
}

func TestAHeadThatDoesNotComeInTime(t *testing.T) {
	for _, body := range []bool{false, true} {
		_, pool, host, next := scene(t, false)
		base := dialer()
		base.ResponseHeaderTimeout = 20 * time.Millisecond
		rt, req := New(base, pool), to(host, get())
		if body {
			req = to(host, request("POST", "/", struct{ io.Reader }{strings.NewReader("hello")}))
			req.ContentLength = 5
		}
		_, err := rt.RoundTrip(req)
		var late net.Error
		if !errors.As(err, &late) || !late.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("body %v: error %v, want a timeout", body, err)
		}
		gone(t, next())
	}
}

// TestAKeptConnectionThatTheUpstreamClosed sends the next request over a new one
// without the caller noticing, whatever its method: nothing of it was sent.
func TestAKeptConnectionThatTheUpstreamClosed(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		for _, method := range []string{"GET", "POST"} {
			rt, _, host, next := scene(t, secure)
			done := make(chan struct{})
			go func() { defer close(done); get2xx(t, rt, to(host, get())) }()
			c := next()
			read(t, c, ok)
			<-done
			_ = c.Close()
			go func() { read(t, next(), ok) }()
			get2xx(t, rt, to(host, request(method, "/", nil)))
		}
	})
}

// TestBytesThatNobodyAskedFor must not become the answer to the next request.
func TestBytesThatNobodyAskedFor(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		const more = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
		// The buffer of the connection ends where this answer does: what comes
		// behind it stays with TLS or in the socket.
		full := "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\nX-Fill: "
		full += strings.Repeat("x", defaultBuffer-4000-len(full)-4) + "\r\n\r\n" + strings.Repeat("b", 4000)
		for name, first := range map[string]string{"with the answer": ok, "in the same record": full, "after it": ""} {
			t.Run(name, func(t *testing.T) {
				rt, _, host, next := scene(t, secure)
				late := first == ""
				done := make(chan struct{})
				go func() { defer close(done); get2xx(t, rt, to(host, get())) }()
				c := next()
				if late {
					read(t, c, ok)
					<-done
					if _, err := io.WriteString(c, more); err != nil {
						t.Fatal(err)
					}
					arrived(t, rt.pool, host)
				} else {
					read(t, c, first+more)
					<-done
				}
				go func() { read(t, next(), ok) }()
				res, err := rt.RoundTrip(to(host, get()))
				if err != nil {
					t.Fatal(err)
				}
				if body, _ := io.ReadAll(res.Body); string(body) != "ok" {
					t.Errorf("the answer is %q", body)
				}
				gone(t, c)
			})
		}
	})
}

// arrived waits until what the upstream sent or did has reached the idle connection.
func arrived(t *testing.T, p *Pool, host string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		list := p.idle[place(host)]
		stale := len(list) == 1 && list[0].stale()
		p.mu.Unlock()
		if stale {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("the connection does not become stale")
		}
	}
}

// TestARequestThatBrokeOnAKeptConnection is sent again where that does no harm:
// the upstream closes when it has read it, as one whose keep-alive time is over.
func TestARequestThatBrokeOnAKeptConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		for _, c := range []struct {
			method, field string
			again         bool
		}{{"GET", "", true}, {"HEAD", "", true}, {"POST", "", false}, {"POST", "Idempotency-Key: 1", true}, {"DELETE", "", false}} {
			t.Run(c.method+c.field, func(t *testing.T) {
				rt, _, host, next := scene(t, secure)
				done := make(chan struct{})
				go func() { defer close(done); get2xx(t, rt, to(host, get())) }()
				first := next()
				read(t, first, ok)
				<-done
				result := make(chan error, 1)
				go func() {
					var fields []string
					if c.field != "" {
						fields = []string{c.field}
					}
					res, err := rt.RoundTrip(to(host, request(c.method, "/", nil, fields...)))
					if err == nil {
						_ = res.Body.Close()
					}
					result <- err
				}()
				read(t, first, "")
				_ = first.Close()
				if c.again {
					read(t, next(), "HTTP/1.1 204 No Content\r\n\r\n")
				}
				if err := <-result; (err == nil) != c.again {
					t.Errorf("error %v, sent again should be %v", err, c.again)
				}
			})
		}
	})
}

// TestAnAnswerBeforeTheEndOfTheRequest is delivered at once, and the connection
// is not used again: the rest of the request is still to come.
func TestAnAnswerBeforeTheEndOfTheRequest(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		rt, _, host, next := scene(t, secure)
		pr, pw := io.Pipe()
		req := to(host, request("POST", "/", pr))
		req.ContentLength = -1
		result := make(chan string, 1)
		go func() {
			res, err := rt.RoundTrip(req)
			if err != nil {
				result <- err.Error()
				return
			}
			body, _ := io.ReadAll(res.Body)
			result <- strconv.Itoa(res.StatusCode) + string(body)
		}()
		if _, err := pw.Write([]byte("first")); err != nil {
			t.Fatal(err)
		}
		c := next()
		if _, err := io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"); err != nil {
			t.Fatal(err)
		}
		if got := <-result; got != "413no" {
			t.Errorf("got %q", got)
		}
		gone(t, c)
		_ = pw.Close()
	})
}

// TestBothWays streams: each side waits for what the other has just sent.
func TestBothWays(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		rt, _, host, next := scene(t, secure)
		pr, pw := io.Pipe()
		req := to(host, request("POST", "/", pr))
		req.ContentLength = -1
		go func() {
			c := next()
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			buf := make([]byte, 1)
			for {
				if _, err := r.Body.Read(buf); err != nil && buf[0] == 'z' {
					break
				}
				_, _ = io.WriteString(c, "1\r\n"+string(buf)+"\r\n")
			}
			_, _ = io.WriteString(c, "0\r\n\r\n")
		}()
		go func() { _, _ = pw.Write([]byte("a")) }()
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1)
		for ch := byte('a'); ch <= 'z'; ch++ {
			if _, err := io.ReadFull(res.Body, buf); err != nil || buf[0] != ch {
				t.Fatalf("read %q, %v; want %q", buf, err, ch)
			}
			if ch < 'z' {
				_, _ = pw.Write([]byte{ch + 1})
			}
		}
		_ = pw.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || strings.Trim(string(rest), "z") != "" {
			t.Errorf("the end: %q, %v", rest, err)
		}
	})
}
