// Package bench measures what the guards add to a bare reverse_proxy: the same
// binary, the same server code, the same upstream, which answers from memory.
package bench

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/sallyport-gateway/sallyport/modules/standard"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

func init() { caddy.RegisterModule(new(memory)) }

// memory is a transport that has the upstream's answer at hand.
type memory struct{}

func (*memory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.memory", New: func() caddy.Module { return new(memory) }}
}

func (*memory) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

// dead has the upstream refuse every connection.
var dead atomic.Bool

func (*memory) RoundTrip(r *http.Request) (*http.Response, error) {
	if dead.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"2"}},
		Body:          io.NopCloser(strings.NewReader("ok")),
		ContentLength: 2, Request: r,
	}, nil
}

const globals = `{
	admin off
	persist_config off
	log {
		output discard
	}
	issuer main {
		issuer ISSUER
		jwks ISSUERjwks.json
		audience orders-api
	}
	audit {
		sink http SINK
	}
}
`

// guards are the chains to measure, from nothing to all of it.
var guards = []struct{ name, site string }{
	{"bare", `reverse_proxy 127.0.0.1:9 {
		transport memory
	}`},
	{"problem", `problem
	reverse_proxy 127.0.0.1:9 {
		transport memory
	}`},
	{"jwt", `jwt main
	reverse_proxy 127.0.0.1:9 {
		transport memory
	}`},
	{"rate_limit", `rate_limit {
		zone per_client {
			key {client_ip}
			rate 1000000/1s
		}
	}
	reverse_proxy 127.0.0.1:9 {
		transport memory
	}`},
	{"breaker_proxy", `breaker_proxy 127.0.0.1:9 {
		transport memory
		breaker
	}`},
	{"telemetry", `telemetry
	reverse_proxy 127.0.0.1:9 {
		transport memory
	}`},
	{"audit", `audit
	reverse_proxy 127.0.0.1:9 {
		transport memory
	}`},
	{"chain", `telemetry
	problem
	jwt main {
		require scope orders:read
		forward sub X-User-Id
	}
	rate_limit {
		zone per_user {
			key {http.auth.user.id}
			rate 1000000/1s
		}
	}
	breaker_proxy 127.0.0.1:9 {
		transport memory
		breaker {
			failure_ratio 50%
			min_requests 20
		}
	}`},
	{"chain and audit", `telemetry
	audit
	problem
	jwt main {
		require scope orders:read
		forward sub X-User-Id
	}
	rate_limit {
		zone per_user {
			key {http.auth.user.id}
			rate 1000000/1s
		}
	}
	breaker_proxy 127.0.0.1:9 {
		transport memory
		breaker {
			failure_ratio 50%
			min_requests 20
		}
	}`},
}

// BenchmarkChain reports, besides allocations and time, the CPU that the whole
// process used for one request: what a goroutine of a guard does counts.
func BenchmarkChain(b *testing.B) {
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		b.Fatal(err)
	}
	defer issuer.Halt() //nolint:errcheck // the benchmark is over
	claims := issuer.Claims("alice", "orders-api", time.Hour)
	claims["scope"] = "orders:read"
	token, err := issuer.Mint(stage.Token{Alg: "ES256", Claims: claims})
	if err != nil {
		b.Fatal(err)
	}
	sink := discard(b)
	for _, g := range guards {
		b.Run(g.name, func(b *testing.B) {
			config := strings.NewReplacer("ISSUER", issuer.URL(), "SINK", sink).Replace(globals)
			server := load(b, config+"http://127.0.0.1:0 {\n\t"+g.site+"\n}\n")
			header := http.Header{"Authorization": {"Bearer " + token}, "Accept": {"*/*"}, "User-Agent": {"bench"}}
			send := func() int {
				r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/orders/17?full=1", nil)
				if err != nil {
					b.Fatal(err)
				}
				r.RequestURI, r.RemoteAddr, r.Header = "/orders/17?full=1", "192.0.2.7:40000", header.Clone()
				w := &blank{header: make(http.Header, 8)}
				server.ServeHTTP(w, r)
				return w.status
			}
			if got := send(); got != http.StatusOK {
				b.Fatalf("the request is answered with %d", got)
			}
			b.ReportAllocs()
			before := cpu(b)
			n := 0
			for b.Loop() {
				if send() != http.StatusOK {
					b.Fatal("a later request is not answered with 200")
				}
				n++
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(n), "cpu-ns/op")
		})
	}
}

// load runs a Caddyfile and returns its only server.
func load(b testing.TB, text string) *caddyhttp.Server {
	b.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		b.Fatalf("%v\n%s", err, text)
	}
	if err := caddy.Load(config, true); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			b.Error(err)
		}
	})
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		b.Fatal(err)
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		return server
	}
	b.Fatal("there is no server")
	return nil
}

// blank is a response writer that keeps the status only.
type blank struct {
	header http.Header
	status int
}

func (w *blank) Header() http.Header { return w.header }

func (w *blank) WriteHeader(status int) { w.status = status }

func (w *blank) Write(p []byte) (int, error) { return len(p), nil }

func (w *blank) Flush() {}

// cpu returns the time the process has computed, in nanoseconds.
func cpu(b *testing.B) int64 {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// discard starts an audit sink that forgets, and returns its URL.
func discard(b testing.TB) string {
	b.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the gateway went away
		w.WriteHeader(http.StatusNoContent)
	})}
	return serve(b, server)
}
