package breaker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// h2c is a client that speaks HTTP/2 without TLS, as gRPC callers do.
func h2c() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

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
		{name: "slow upload is the client's", policy: `,"slow_after":"50ms"`, upstream: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
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
	res, err := g.Client().Post(g.URL, "text/plain", &trickle{left: 4, every: 30 * time.Millisecond, end: io.EOF})
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

func TestGRPCStatusDecides(t *testing.T) {
	for _, tt := range []struct {
		name     string
		trailers map[string]string // by place: head, announced, unannounced
		timeout  string
		failures int
		total    int
	}{
		{name: "ok in a trailer", trailers: map[string]string{"announced": "0"}, total: 1},
		{name: "unavailable in a trailer", trailers: map[string]string{"announced": "14"}, total: 1, failures: 1},
		{name: "internal in an unannounced trailer", trailers: map[string]string{"unannounced": "13"}, total: 1, failures: 1},
		{name: "unavailable without a body", trailers: map[string]string{"head": "14"}, total: 1, failures: 1},
		{name: "permission denied is an answer", trailers: map[string]string{"announced": "7"}, total: 1},
		{name: "exhausted is one caller's quota", trailers: map[string]string{"announced": "8"}, total: 1},
		{name: "deadline exceeded", trailers: map[string]string{"announced": "4"}, timeout: "5S", total: 1, failures: 1},
		{name: "deadline of a hasty caller", trailers: map[string]string{"announced": "4"}, timeout: "90m", total: 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newH2CUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/grpc")
				if s, ok := tt.trailers["head"]; ok {
					w.Header().Set("Grpc-Status", s)
					return
				}
				if _, ok := tt.trailers["announced"]; ok {
					w.Header().Set("Trailer", "Grpc-Status")
				}
				w.WriteHeader(200)
				_, _ = w.Write([]byte{0, 0, 0, 0, 0})
				if s, ok := tt.trailers["announced"]; ok {
					w.Header().Set("Grpc-Status", s)
				} else {
					w.Header().Set(http.TrailerPrefix+"Grpc-Status", tt.trailers["unannounced"])
				}
			})
			h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"`+u+`"}],"transport":{"protocol":"http","versions":["h2c"]}}}`)
			g := serve(t, h)
			res := grpcCall(t, g, tt.timeout)
			want := tt.trailers["head"] + tt.trailers["announced"] + tt.trailers["unannounced"]
			if got := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status"); got != want {
				t.Errorf("the caller got status %q, want %q", got, want)
			}
			if c := h.fixed[0].View(time.Now()).Counts; c.Failures != tt.failures || c.Total != tt.total {
				t.Errorf("counted %+v, want %d of %d", c, tt.failures, tt.total)
			}
		})
	}
}

func newH2CUpstream(t *testing.T, f http.HandlerFunc) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(f)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols = protocols
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// grpcCall sends one gRPC call and returns its answer with the trailers.
func grpcCall(t *testing.T, g *gate, timeout string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/orders.Orders/Get", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	if timeout != "" {
		req.Header.Set("Grpc-Timeout", timeout)
	}
	res, err := h2c().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

func TestGRPCCallersGetGRPCAnswers(t *testing.T) {
	h := build(t, `{"policy":{"name":"%s"},"fallbacks":[{"kind":"respond","response":{"body":"sorry"}}],"proxy":`+proxyTo(deadAddr(t))+`}`)
	h.fixed[0].Force(time.Now(), circuit.ForcedOpen, time.Hour, "test")
	g := serve(t, h)
	res := grpcCall(t, g, "")
	if res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "14" || res.Header.Get("Grpc-Retry-Pushback-Ms") == "" {
		t.Errorf("got %d with %v, want status 14 with a pushback", res.StatusCode, res.Header)
	}
	if res = grpcCall(t, g, "0m"); res.Header.Get("Grpc-Status") != "14" {
		t.Errorf("got %v", res.Header)
	}
	h.fixed[0].Reset(time.Now(), "test")
	if res = grpcCall(t, g, "0m"); res.Header.Get("Grpc-Status") != "4" {
		t.Errorf("a call out of time got %v, want status 4", res.Header)
	}
}

func TestGRPCTimeoutIsRewritten(t *testing.T) {
	seen := make(chan string, 1)
	u := newH2CUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Grpc-Timeout")
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	})
	h := build(t, `{"policy":{"name":"%s"},"timeout":"2s","proxy":{"upstreams":[{"dial":"`+u+`"}],"transport":{"protocol":"http","versions":["h2c"]}}}`)
	g := serve(t, h)
	for _, tt := range []struct {
		sent string
		most time.Duration
	}{{"", 2 * time.Second}, {"1S", time.Second}, {"10S", 2 * time.Second}} {
		grpcCall(t, g, tt.sent)
		got, ok := grpcTimeout(<-seen)
		if !ok || got > tt.most-headroom || got < tt.most/2 {
			t.Errorf("for %q the upstream was told %s, want a little less than %s", tt.sent, got, tt.most)
		}
	}
}

func TestGRPCTimeoutText(t *testing.T) {
	for _, d := range []time.Duration{time.Nanosecond, time.Millisecond, 99 * time.Second, time.Hour, 300 * time.Hour, 1e6 * time.Hour} {
		text := formatGRPCTimeout(d)
		back, ok := grpcTimeout(text)
		if !ok || len(text) > 9 || back > max(d, time.Microsecond) || back < d-d/1000 {
			t.Errorf("%s is written %q and read as %s", d, text, back)
		}
	}
	for _, bad := range []string{"", "5", "S", "123456789S", "5x", "-5S", "5.0S", " 5S"} {
		if d, ok := grpcTimeout(bad); ok {
			t.Errorf("%q is read as %s", bad, d)
		}
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
