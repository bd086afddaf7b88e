package breaker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// h2c is a client that speaks HTTP/2 without TLS, as gRPC callers do.
func h2c() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
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
