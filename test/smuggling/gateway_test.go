// Package smuggling sends the whole gateway what tears requests and answers apart
// where two programs read them differently, and looks at what comes out on the
// other side: over the direct way and over net/http's.
package smuggling

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	_ "github.com/sallyport-gateway/sallyport/modules/standard"
	"github.com/sallyport-gateway/sallyport/test/port"
)

const patience = 60 * time.Second

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// upstream writes down what it is sent, byte for byte, and answers each request
// with the next of its scripts, then with ok.
type upstream struct {
	net.Listener
	mu      sync.Mutex
	heard   []string // one entry a request: what it is, read strictly
	broken  []string // what could not be read as a request
	scripts []string
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{Listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go u.serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return u
}

func (u *upstream) serve(c net.Conn) {
	defer c.Close()
	var raw bytes.Buffer
	br := bufio.NewReader(io.TeeReader(c, &raw))
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			if raw.Len() > 0 && err != io.EOF {
				u.mu.Lock()
				u.broken = append(u.broken, fmt.Sprintf("%v: %.200q", err, raw.String()))
				u.mu.Unlock()
			}
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // never whole: the upstream must not act on it
		}
		u.mu.Lock()
		u.heard = append(u.heard, describe(req, string(body)))
		if head, _, _ := strings.Cut(raw.String(), "\r\n\r\n"); ambiguous(head) {
			u.broken = append(u.broken, "ambiguous: "+head)
		}
		raw.Reset()
		script := ok
		if len(u.scripts) > 0 {
			script, u.scripts = u.scripts[0], u.scripts[1:]
		}
		u.mu.Unlock()
		if _, err := io.WriteString(c, script); err != nil {
			return
		}
		if strings.HasSuffix(script, "CLOSE") {
			return
		}
	}
}

// describe says what a request is to the upstream.
func describe(req *http.Request, body string) string {
	s := req.Method + " " + req.RequestURI + " @" + req.Host
	if body != "" {
		s += fmt.Sprintf(" %.40q", body)
	}
	for _, name := range []string{"X-Evil", "X-A", "X-Q"} {
		if v := req.Header[name]; strings.Join(v, "") != "" {
			s += fmt.Sprintf(" %s=%q", name, v)
		}
	}
	if v, ok := req.Trailer["X-Evil"]; ok {
		s += fmt.Sprintf(" trailer=%q", v)
	}
	return s
}

// ambiguous says that a head leaves it open where its message ends, or holds what
// another reader might take for the end of a line.
func ambiguous(head string) bool {
	lengths, codings := 0, 0
	for line := range strings.SplitSeq(head, "\r\n") {
		name, _, _ := strings.Cut(strings.ToLower(line), ":")
		switch strings.TrimSpace(name) {
		case "content-length":
			lengths++
		case "transfer-encoding":
			codings++
		}
		if strings.ContainsAny(line, "\r\n\x00") || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			return true
		}
	}
	return lengths+codings > 1
}

func (u *upstream) script(answers ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.heard, u.broken, u.scripts = nil, nil, answers
}

// start runs the gateway in front of u and returns its address.
func start(t *testing.T, u *upstream, direct string) string {
	t.Helper()
	n, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	log {
		output discard
	}
	servers {
		protocols h1
		max_header_size 16KB
		listener_wrappers {
			handover
			route_index
		}
	}
}
http://127.0.0.1:%d, http://shop.example:%d {
	telemetry
	problem
	rate_limit {
		zone all {
			key {client_ip}
			rate 1000000/1s
		}
	}
	breaker_proxy %s {
		direct %s
		header_up X-Q {http.request.uri.query.q}
		transport http {
			max_response_header 16KiB
		}
	}
}
`, n, n, u.Addr(), direct)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("127.0.0.1:%d", n)
}

// client sends bytes and returns the answers: status, and body where it is 200.
func client(t *testing.T, addr, bytes string, methods ...string) (answers []string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	go func() {
		_, _ = io.WriteString(c, bytes)
	}()
	br := bufio.NewReader(c)
	for i := 0; ; i++ {
		method := http.MethodGet
		if i < len(methods) {
			method = methods[i]
		}
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err == io.EOF || err == io.ErrUnexpectedEOF || err != nil && strings.Contains(err.Error(), "reset by peer") {
			return answers
		}
		if err != nil {
			return append(answers, "unreadable: "+err.Error())
		}
		body, err := io.ReadAll(res.Body)
		s := fmt.Sprint(res.StatusCode)
		if res.StatusCode == http.StatusOK {
			s += fmt.Sprintf(" %.20q", body)
		}
		if err != nil && res.StatusCode == http.StatusOK {
			s += " cut" // a refusal may end with its connection
		}
		if v, ok := res.Header["X-Evil"]; ok {
			s += fmt.Sprintf(" X-Evil=%q", v)
		}
		answers = append(answers, s)
	}
}
