package breaker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// drop ends the connection without an answer.
func drop(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// TestOutcomes sends one request each and looks at what it said about the
// upstream.
func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		upstream http.HandlerFunc
		policy   string
		client   func(t *testing.T, g *gate, u *upstream)
		want     circuit.Counts
	}{
		{name: "good", upstream: func(http.ResponseWriter, *http.Request) {}, want: circuit.Counts{Total: 1}},
		{name: "404 is the upstream's word", upstream: answer(404), want: circuit.Counts{Total: 1}},
		{name: "429 is one client's quota", upstream: answer(429), want: circuit.Counts{Total: 1}},
		{name: "500", upstream: answer(500), want: circuit.Counts{Total: 1, Failures: 1}},
		{name: "501 is not a failure by default", upstream: answer(501), want: circuit.Counts{Total: 1}},
		{name: "a status of the operator's", policy: `,"fail_status":[501]`, upstream: answer(501), want: circuit.Counts{Total: 1, Failures: 1}},
		{name: "reset before an answer", upstream: func(w http.ResponseWriter, _ *http.Request) { drop(w) }, want: circuit.Counts{Total: 1, Failures: 1}},
		{name: "body breaks off", want: circuit.Counts{Total: 1, Failures: 1}, upstream: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			drop(w)
		}, client: func(t *testing.T, g *gate, _ *upstream) {
			res, err := g.Client().Get(g.URL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(res.Body); err == nil {
				t.Error("the client was told a whole answer")
			}
		}},
		{name: "slow first byte", policy: `,"slow_after":"20ms"`, upstream: func(w http.ResponseWriter, r *http.Request) { <-time.After(40 * time.Millisecond) },
			want: circuit.Counts{Total: 1, Slow: 1}},
		{name: "slow upload is the client's", policy: `,"slow_after":"1s"`, upstream: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
			client: slowUpload, want: circuit.Counts{Total: 1}},
		{name: "client leaves before the answer", upstream: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, client: leave},
		{name: "client's upload breaks off", upstream: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, client: breakUpload},
		{name: "client leaves in the middle of the body", client: leaveInBody, upstream: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}},
		{name: "event stream", client: leaveInBody, want: circuit.Counts{Total: 1}, upstream: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		{name: "upgrade", client: upgrade, want: circuit.Counts{Total: 1}, upstream: echo},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			u.does(tt.upstream)
			h := build(t, `{"policy":{"name":"%s"`+tt.policy+`},"retry_budget":{"ratio":-1},"proxy":`+proxyTo(u.addr)+`}`)
			g := serve(t, h)
			if tt.client != nil {
				tt.client(t, g, u)
			} else {
				g.get(t, "/")
			}
			<-g.seen // the handler has returned
			got := h.fixed[0].View(time.Now()).Counts
			if got.Total != tt.want.Total || got.Failures != tt.want.Failures || got.Slow != tt.want.Slow {
				t.Errorf("counted %+v, want %+v", got, tt.want)
			}
			if n := len(h.fixed[0].results); n != 3 {
				t.Fatalf("%d result classes", n)
			}
			if ignored := testutil.ToFloat64(h.fixed[0].results[circuit.Ignored]); ignored != float64(1-tt.want.Total) {
				t.Errorf("%g were ignored, want %d", ignored, 1-tt.want.Total)
			}
		})
	}
}

func answer(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func leave(t *testing.T, g *gate, u *upstream) {
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	go func() {
		<-u.arrived
		cancel()
	}()
	if res, err := g.Client().Do(req); err == nil {
		t.Errorf("got %d after leaving", res.StatusCode)
	}
}

func leaveInBody(t *testing.T, g *gate, _ *upstream) {
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	res, err := g.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = res.Body.Close()
}

// trickle is a body whose bytes come late.
type trickle struct {
	left  int
	every time.Duration
	end   error
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.end
	}
	b.left--
	<-time.After(b.every)
	p[0] = 'x'
	return 1, nil
}

func slowUpload(t *testing.T, g *gate, _ *upstream) {
	res, err := g.Client().Post(g.URL, "text/plain", &trickle{left: 3, every: 400 * time.Millisecond, end: io.EOF})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

func breakUpload(t *testing.T, g *gate, _ *upstream) {
	conn, err := net.Dial("tcp", g.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A chunk that is no chunk: the server's body reader fails, the connection stands.
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzzzz\r\n")
	_, _ = io.Copy(io.Discard, conn)
}

// echo switches protocols and returns what it is sent.
func echo(w http.ResponseWriter, _ *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	line, _ := rw.ReadString('\n')
	_, _ = io.WriteString(conn, line)
}

func upgrade(t *testing.T, g *gate, _ *upstream) {
	conn, err := net.Dial("tcp", g.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("no upgrade: %v %v", res, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("echo returned %q, %v", line, err)
	}
}

func TestConnectFailuresAreLocal(t *testing.T) {
	plain := newUpstream(t)
	secure := httptest.NewTLSServer(nil) // its certificate is nobody's
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = nil
	for _, tt := range []struct{ name, addr, transport string }{
		{"refused", deadAddr(t), `{"protocol":"http"}`},
		{"no TLS there", plain.addr, `{"protocol":"http","tls":{}}`},
		{"unknown certificate", secure.Listener.Addr().String(), `{"protocol":"http","tls":{}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"`+tt.addr+`"}],"transport":`+tt.transport+`}}`)
			if res, _ := serve(t, h).get(t, "/"); res.StatusCode != http.StatusBadGateway {
				t.Errorf("got %d, want 502", res.StatusCode)
			}
			if c := h.fixed[0].View(time.Now()).Counts; c.Failures != 1 || c.Local != 1 {
				t.Errorf("counted %+v, want a local failure", c)
			}
		})
	}
}

func TestPoison(t *testing.T) {
	u := newUpstream(t)
	u.does(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/crash" {
			w.WriteHeader(500)
		}
	})
	h := build(t, `{"policy":{"name":"%s","min_requests":10},"proxy":`+proxyTo(u.addr)+`}`)
	g := serve(t, h)
	ask := func(client, path string) int {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, nil)
		req.Header.Set("X-Test-Client", client)
		res, err := g.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	ask("192.0.2.1", "/")
	for range 200 {
		ask("203.0.113.9", "/crash")
	}
	if s := h.fixed[0].State(); s != circuit.Closed {
		t.Fatalf("one client's failures made the circuit %s", s)
	}
	if got := ask("192.0.2.1", "/"); got != 200 {
		t.Errorf("another client got %d", got)
	}
	for range 2 {
		ask("198.51.100.7", "/crash")
	}
	if s := h.fixed[0].State(); s != circuit.Open {
		t.Errorf("two clients' failures left the circuit %s", s)
	}
}
