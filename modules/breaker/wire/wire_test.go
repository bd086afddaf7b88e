package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// listening has serve called with each connection to the address it returns.
func listening(tb testing.TB, serve func(net.Conn)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// origin answers each request on a connection with the next of its scripts.
type origin struct {
	net.Listener
	mu      sync.Mutex
	heard   []string // the requests, byte for byte
	conns   int
	scripts []string
	hangUp  bool // close after each answer
	echo    bool // answer with the path
	secure  bool // over TLS
}

func newOrigin(tb testing.TB, secure, hangUp bool, scripts ...string) *origin {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	o := &origin{Listener: l, scripts: scripts, hangUp: hangUp, secure: secure}
	go o.accept()
	tb.Cleanup(func() { _ = l.Close() })
	return o
}

func (o *origin) accept() {
	for {
		c, err := o.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		o.conns++
		o.mu.Unlock()
		go o.serve(c)
	}
}

func (o *origin) serve(socket net.Conn) {
	c := socket
	if o.secure {
		c = tls.Server(socket, serverTLS())
	}
	defer c.Close()
	var raw bytes.Buffer
	br := bufio.NewReader(io.TeeReader(c, &raw))
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if req.Header.Get("Expect") != "" {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\nX-Go: on\r\n\r\n")
		}
		_, _ = io.Copy(io.Discard, req.Body)
		o.mu.Lock()
		o.heard = append(o.heard, strings.ReplaceAll(raw.String(), o.Addr().String(), "ORIGIN"))
		raw.Reset()
		script := "HTTP/1.1 500 no script\r\nContent-Length: 0\r\n\r\n"
		if len(o.scripts) > 0 {
			script, o.scripts = o.scripts[0], o.scripts[1:]
		}
		if o.echo {
			script = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
		}
		hangUp := o.hangUp
		o.mu.Unlock()
		if script == "RESET" {
			_ = socket.(*net.TCPConn).SetLinger(0)
			_ = socket.Close()
			return
		}
		if rest, cut := strings.CutPrefix(script, "CUT "); cut { // without TLS's goodbye
			_, _ = io.WriteString(c, rest)
			_ = socket.Close()
			return
		}
		if _, err := io.WriteString(c, script); err != nil || hangUp {
			return
		}
	}
}

// seen is all that can be told of a request from its two ends.
type seen struct {
	Answer, Header, Body, Trailer, Err, Hints, Heard, TLS string
	Length                                                int64
	Close, Unzipped                                       bool
	TransferEncoding                                      []string
}

var lost = regexp.MustCompile(`EOF|closed network connection|reset by peer|broken pipe`)

var port = regexp.MustCompile(`127\.0\.0\.1:\d+(->127\.0\.0\.1:\d+)?`)

func dialer() *http.Transport {
	return &http.Transport{DialContext: (&net.Dialer{}).DialContext, MaxResponseHeaderBytes: 16 << 10, MaxIdleConnsPerHost: 8,
		TLSClientConfig: &tls.Config{RootCAs: authority()}, ExpectContinueTimeout: 30 * time.Second}
}

func trip(tb testing.TB, rt http.RoundTripper, o *origin, make func() *http.Request) seen {
	tb.Helper()
	req := make()
	if req.URL.Host = o.Addr().String(); o.secure {
		req.URL.Scheme = "https"
	}
	var s seen
	ctx, cancel := context.WithTimeout(req.Context(), 30*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		s.Hints += fmt.Sprintln(code, h)
		return nil
	}})
	req = req.WithContext(ctx)
	if w, ok := rt.(*Transport); ok && !w.Does(req) {
		tb.Fatalf("%s %s: not done", req.Method, req.URL)
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		s.Err = port.ReplaceAllString(err.Error(), "CONN")
		if req.Body != nil && lost.MatchString(s.Err) {
			s.Err = "connection lost" // writer and reader meet it in either order
		}
	} else {
		body, err := io.ReadAll(res.Body)
		if err != nil {
			s.Err = "body: " + port.ReplaceAllString(err.Error(), "CONN")
		}
		_ = res.Body.Close()
		s.Answer, s.Header, s.Body, s.Trailer = res.Proto+" "+res.Status, fmt.Sprint(res.Header), string(body), fmt.Sprint(res.Trailer)
		if res.TLS != nil {
			s.TLS = fmt.Sprint(res.TLS.ServerName, res.TLS.Version, res.TLS.NegotiatedProtocol, len(res.TLS.VerifiedChains))
		}
		s.Length, s.Close, s.Unzipped, s.TransferEncoding = res.ContentLength, res.Close, res.Uncompressed, res.TransferEncoding
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Heard = strings.Join(o.heard, "----")
	o.heard = nil
	return s
}

func get() *http.Request { return request("GET", "/a?b=c", nil) }

func request(method, target string, body io.Reader, fields ...string) *http.Request {
	req, err := http.NewRequest(method, "http://x"+target, body)
	if err != nil {
		panic(err)
	}
	req.Host = "shop.example"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	return req
}

// both sends the same requests over net/http's transport and over this one, to
// origins with the same scripts, and compares all that can be seen: in clear text
// and over TLS.
func both(tb testing.TB, hangUp bool, requests []func() *http.Request, scripts ...string) {
	tb.Helper()
	for _, secure := range []bool{false, true} {
		compare(tb, secure, hangUp, requests, scripts...)
	}
}

func compare(tb testing.TB, secure, hangUp bool, requests []func() *http.Request, scripts ...string) {
	tb.Helper()
	base := dialer()
	defer base.CloseIdleConnections()
	pool := NewPool(8, time.Minute)
	defer pool.Close()
	theirs, ours := newOrigin(tb, secure, hangUp, scripts...), newOrigin(tb, secure, hangUp, scripts...)
	for i, r := range requests {
		want := trip(tb, base, theirs, r)
		got := trip(tb, New(base, pool), ours, r)
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			tb.Errorf("request %d, TLS %v:\n got  %+q\n want %+q", i+1, secure, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
		}
	}
	theirs.mu.Lock()
	defer theirs.mu.Unlock()
	ours.mu.Lock()
	defer ours.mu.Unlock()
	if !hangUp && ours.conns != theirs.conns {
		tb.Errorf("TLS %v: %d connections, net/http makes %d", secure, ours.conns, theirs.conns)
	}
}

// oneByte reads one byte and no more.
type oneByte struct{ io.Reader }

func (o *oneByte) Read(p []byte) (int, error) {
	n, _ := o.Reader.Read(p[:1])
	return n, io.EOF
}
