package breaker

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// duel gives stock reverse_proxy and the lean forwarder the same bytes, and
// takes down all that the upstream and the client get.
type duel struct {
	stock, off, lean *side // off: breaker_proxy with lean off
}

// side is one of the two with an upstream of its own.
type side struct {
	*gate
	origin *origin
}

// duelists sets both up. config is of the proxy; UP is the upstream, DEAD one
// that refuses connections.
func duelists(t testing.TB, config string, secure bool) *duel {
	t.Helper()
	if config == "" {
		config = `{"upstreams":[{"dial":"UP"}]}`
	}
	if secure {
		config = `{"transport":{"protocol":"http","versions":["1.1"],"tls":{"ca":{"provider":"inline","trusted_ca_certs":["` +
			base64.StdEncoding.EncodeToString(certificate().Certificate[0]) + `"]}}},` + config[1:]
	}
	at := func(o *origin) string {
		return strings.NewReplacer("UP", o.Addr().String(), "DEAD", deadAddr(t)).Replace(config)
	}
	ours := func(word string) *side {
		o := newOrigin(t, secure)
		h := build(t, `{"policy":{"name":"%s","failure_ratio":-1,"consecutive":-1},"retry_budget":{"ratio":-1},"lean":"`+word+`","proxy":`+at(o)+`}`)
		if w := h.way(); (w.Way == leanWay) != (word == "on") {
			t.Fatalf("lean %s is %s", word, w)
		}
		return &side{front(t, marked{h}), o}
	}
	theirs := newOrigin(t, secure)
	return &duel{&side{front(t, marked{stock(t, at(theirs))}), theirs}, ours("off"), ours("on")}
}

// marked is what Caddy's server does before the proxy has the request.
type marked struct{ caddyhttp.MiddlewareHandler }

func (m marked) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	w.Header().Set("Server", "Caddy")
	if r.Header.Get("X-Test-Before") != "" {
		w.Header().Set("Via", "0.9 outer")
		w.Header().Set("X-Up", "before")
	}
	if r.Header.Get("X-Test-Trusted") != "" {
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, true)
	}
	if addr := r.Header.Get("X-Test-From"); addr != "" {
		r.RemoteAddr = addr
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Test-") {
			delete(r.Header, name)
		}
	}
	return m.MiddlewareHandler.ServeHTTP(w, r, next)
}

// fight sends the request through one side and returns what both its ends saw,
// and what its placeholders said afterwards.
func (s *side) fight(t testing.TB, request string, o script) string {
	t.Helper()
	s.origin.plays(o)
	var b strings.Builder
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	go func() { _, _ = io.WriteString(c, request) }() // who answers early may not read all of it
	method, _, _ := strings.Cut(request, " ")
	br := bufio.NewReader(c)
	for answers := 0; ; answers++ {
		text, status, err := message(br, method, o.upgrades)
		fmt.Fprintf(&b, "client got %s\n", text)
		if err != nil {
			fmt.Fprintf(&b, "and then nothing more\n")
		}
		if err != nil || status < 100 || status > 199 || status == 101 || answers > 100 {
			break
		}
	}
	if o.upgrades {
		_ = c.Close()
	}
	select {
	case <-s.entered:
		b.WriteString(placeholders(s.over(t)))
	default: // the server has refused the request
	}
	b.WriteString(s.origin.heard())
	text := strings.ReplaceAll(b.String(), s.origin.Addr().String(), "UP")
	text = strings.ReplaceAll(text, s.Listener.Addr().String(), "GATE")
	return dates.ReplaceAllString(ports.ReplaceAllString(text, "127.0.0.1:PORT"), "Date: now")
}

// over waits for the end of the handler.
func (s *side) over(t testing.TB) *http.Request {
	t.Helper()
	select {
	case r := <-s.seen:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("the request is not over")
		return nil
	}
}

var dates = regexp.MustCompile(`Date: \w{3}, \d\d \w{3} 20\d\d [0-9:]{8} GMT`)

// placeholders are what reverse_proxy tells of a request. Times and counts of
// other requests are chance: only that they are told is compared.
func placeholders(r *http.Request) string {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	var b strings.Builder
	for _, name := range []string{
		"upstream.address", "upstream.hostport", "upstream.host", "upstream.max_requests", "upstream.fails", "status_code", "status_text", "retries",
		"header.X-Up", "header.Connection", "header.Content-Type", "header.Set-Cookie", "header.Nothing", "is_transport_error", "unknown",
	} {
		v, known := repl.Get("http.reverse_proxy." + name)
		fmt.Fprintf(&b, "%s = %T %v %t\n", name, v, v, known)
	}
	for _, name := range []string{
		"upstream.port", "upstream.requests", "upstream.latency", "upstream.latency_ms", "upstream.duration", "upstream.duration_ms", "duration", "duration_ms",
	} {
		v, known := repl.Get("http.reverse_proxy." + name)
		fmt.Fprintf(&b, "%s = %T %t\n", name, v, known)
	}
	return b.String()
}

// script is how an origin behaves.
type script struct {
	answers  []string // one for each request; RESET resets the connection
	hangUp   bool     // close after each answer
	upgrades bool     // both sides talk on after a 101
}

func says(answers ...string) script { return script{answers: answers} }

func ends(answers ...string) script { return script{answers: answers, hangUp: true} }

// origin plays a script on its connections and takes down what it hears.
type origin struct {
	net.Listener
	secure bool
	mu     sync.Mutex // guards what follows
	of     script
	text   strings.Builder
}

// certificate is that of origins over TLS.
var certificate = sync.OnceValue(func() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
})

func newOrigin(t testing.TB, secure bool) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{Listener: l, secure: secure}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return o
}

func (o *origin) plays(s script) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of = s
	o.text.Reset()
}

func (o *origin) heard() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *origin) serve(socket net.Conn) {
	c := socket
	if o.secure {
		c = tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{certificate()}})
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		if _, err := br.Peek(1); err != nil {
			return
		}
		o.mu.Lock()
		upgrades := o.of.upgrades
		o.mu.Unlock()
		text, _, err := message(br, "", upgrades)
		o.mu.Lock()
		fmt.Fprintf(&o.text, "upstream got %s\n", text)
		answer, s := "HTTP/1.1 500 no script\r\nContent-Length: 0\r\n\r\n", o.of
		if len(s.answers) > 0 {
			answer, o.of.answers = s.answers[0], s.answers[1:]
		}
		o.mu.Unlock()
		if answer == "RESET" {
			_ = socket.(*net.TCPConn).SetLinger(0)
			_ = socket.Close()
			return
		}
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil || s.hangUp {
			return
		}
	}
}

// headOf reads a message up to the empty line.
func headOf(br *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := br.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" || line == "\n" {
			return head.String(), err
		}
	}
}

// message reads one message: its head as it stands, and its body without the
// sizes of its chunks, which depend on what came in one piece. The method is
// that of the request where the message is an answer.
func message(br *bufio.Reader, method string, talks bool) (text string, status int, err error) {
	head, err := headOf(br)
	if err != nil {
		return head, 0, err
	}
	first, rest, _ := strings.Cut(head, "\n")
	if method != "" && len(first) > 12 {
		status, _ = strconv.Atoi(first[9:12])
	}
	fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(rest))).ReadMIMEHeader()
	if err != nil {
		return head, status, nil
	}
	var body bytes.Buffer
	length, sized := 0, fields.Get("Content-Length") != ""
	if sized {
		length, _ = strconv.Atoi(fields.Get("Content-Length"))
	}
	switch {
	case method == "HEAD", status == 204, status == 304, status >= 100 && status < 200:
		if status == 101 && talks {
			_, err = io.CopyN(&body, br, 5)
		}
	case fields.Get("Transfer-Encoding") == "chunked":
		if _, err = io.Copy(&body, httputil.NewChunkedReader(br)); err == nil {
			var trailer string
			trailer, err = headOf(br)
			body.WriteString("|trailer|" + trailer)
		}
	case sized:
		_, err = io.CopyN(&body, br, int64(length))
	case method != "":
		_, err = io.Copy(&body, br)
	}
	return head + body.String(), status, err
}

var zippedText, zippedLen = func() (string, string) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte("hello"))
	_ = z.Close()
	return b.String(), strconv.Itoa(b.Len())
}()
