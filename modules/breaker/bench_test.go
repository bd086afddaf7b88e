package breaker

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// memory is a transport that answers from memory, so that the benchmarks show
// what the handlers cost and nothing else.
type memory struct{}

func (*memory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.test_memory", New: func() caddy.Module { return new(memory) }}
}

func (*memory) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/plain"}}, Body: &answerBody{left: 100}, ContentLength: 100, Request: req}, nil
}

type answerBody struct{ left int }

func (b *answerBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(b.left, len(p))
	b.left -= n
	return n, nil
}

func (*answerBody) Close() error { return nil }

func init() { caddy.RegisterModule(new(memory)) }

// stock provisions Caddy's own reverse_proxy.
func stock(b testing.TB, config string) *reverseproxy.Handler {
	b.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(ctx)
	b.Cleanup(cancel)
	mod, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", json.RawMessage(config))
	if err != nil {
		b.Fatal(err)
	}
	return mod.(*reverseproxy.Handler)
}

const memoryProxy = `{"transport":{"protocol":"test_memory"},"upstreams":[{"dial":"a.example:80"},{"dial":"b.example:80"}]}`

// BenchmarkServeHTTP is one proxied request through stock reverse_proxy and
// through breaker_proxy around the same; the difference is what the bridge costs.
func BenchmarkServeHTTP(b *testing.B) {
	around := func(more string) caddyhttp.MiddlewareHandler {
		return build(b, `{"policy":{"name":"%s"`+more+`,"proxy":`+memoryProxy+`}`)
	}
	open := build(b, `{"policy":{"name":"%s"},"proxy":`+memoryProxy+`,"fallbacks":[{"kind":"respond","response":{"body":"later"}}]}`)
	for _, t := range open.fixed {
		t.Force(time.Now(), circuit.ForcedOpen, time.Hour, "bench")
	}
	oneOpen := build(b, `{"policy":{"name":"%s"},"proxy":`+memoryProxy+`}`)
	oneOpen.fixed[0].Force(time.Now(), circuit.ForcedOpen, time.Hour, "bench")
	for _, tt := range []struct {
		name string
		h    caddyhttp.MiddlewareHandler
	}{
		{"reverse_proxy", stock(b, memoryProxy)},
		{"breaker_proxy", around(`}`)},
		{"breaker_proxy with concurrency", around(`},"concurrency":{"limit":100}`)},
		{"breaker_proxy with timeout", around(`},"timeout":"10s"`)},
		{"breaker_proxy with slow", around(`,"slow_after":"1s"}`)},
		{"one of two open", oneOpen},
		{"all open, fallback", open},
	} {
		b.Run(tt.name, func(b *testing.B) {
			server := new(caddyhttp.Server)
			next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/orders/17", nil)
			b.ReportAllocs()
			for b.Loop() {
				w := &nowhere{h: make(http.Header, 8)}
				req := caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
				caddyhttp.SetVar(req.Context(), caddyhttp.TrustedProxyVarKey, false)
				caddyhttp.SetVar(req.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
				if err := tt.h.ServeHTTP(w, req, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// nowhere is a client.
type nowhere struct{ h http.Header }

func (n *nowhere) Header() http.Header         { return n.h }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Flush()                      {}
