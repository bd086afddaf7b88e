package breaker

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"unsafe"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// echoing is an upstream that answers each request it reads with the same bytes
// and allocates nothing.
func echoing(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\nhello, world!")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// forwarders are stock reverse_proxy and breaker_proxy in each of its ways, to
// an upstream on loopback.
func forwarders(t testing.TB) (names []string, handlers []caddyhttp.MiddlewareHandler) {
	proxy := proxyTo(echoing(t))
	around := func(options string) *Handler {
		return build(t, `{"policy":{"name":"%s"},`+options+`"proxy":`+proxy+`}`)
	}
	return []string{"reverse_proxy", "stock", "direct", "lean"},
		[]caddyhttp.MiddlewareHandler{stock(t, proxy), around(`"direct":"off",`), around(`"lean":"off",`), around("")}
}

// once is one request through h.
func once(t testing.TB, h caddyhttp.MiddlewareHandler) func() {
	server := new(caddyhttp.Server)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/orders/17", nil)
	r.Header = http.Header{"Accept": {"*/*"}, "User-Agent": {"bench"}, "Accept-Encoding": {"gzip"}}
	w := &nowhere{h: make(http.Header, 8)}
	return func() {
		clear(w.h)
		req := caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
		caddyhttp.SetVar(req.Context(), caddyhttp.TrustedProxyVarKey, false)
		caddyhttp.SetVar(req.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
		if err := h.ServeHTTP(w, req, next); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkForward is one small request to an upstream on loopback and back. The
// upstream runs in this process too: the differences are what counts.
func BenchmarkForward(b *testing.B) {
	names, handlers := forwarders(b)
	for i, name := range names {
		b.Run(name, func(b *testing.B) {
			do := once(b, handlers[i])
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}

// TestWhatForwardingAllocates holds the point of the lean way: what it saves.
func TestWhatForwardingAllocates(t *testing.T) {
	names, handlers := forwarders(t)
	none := testing.AllocsPerRun(200, once(t, idle{}))
	var of []string
	var allocs []float64
	for i, name := range names {
		n := testing.AllocsPerRun(200, once(t, handlers[i])) - none
		allocs = append(allocs, n)
		of = append(of, fmt.Sprintf("%s %.0f", name, n))
	}
	t.Log(of)
	if allocs[3] > mostAllocations || allocs[3] > 0.5*allocs[0] {
		t.Errorf("allocations a request: %v; want lean at most %d, and at most half of reverse_proxy's", of, mostAllocations)
	}
}

// mostAllocations of a small request forwarded lean, the codec's included.
const mostAllocations = 8

// idle forwards nothing: what is left is the preparation of the request.
type idle struct{}

func (idle) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	_, err := io.WriteString(w, "")
	return err
}

// TestTheSizeOfAForwarding keeps it in the allocator's class of 2 KiB: what is
// above is rounded up by an eighth.
func TestTheSizeOfAForwarding(t *testing.T) {
	const most = 2048 - 8 // what the allocator writes before it
	if n := unsafe.Sizeof(forwarding{}); n > most {
		t.Errorf("%d bytes, want %d at most", n, most)
	}
}
