package bench

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// TestWhatARequestAllocates is the short form of `make bench` that CI runs. It
// counts and does not time: the counts are of the gateway alone, since upstream
// and client allocate nothing, and do not depend on the machine.
func TestWhatARequestAllocates(t *testing.T) {
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Halt() //nolint:errcheck // the test is over
	claims := issuer.Claims("alice", "orders-api", time.Hour)
	claims["scope"] = "orders:read"
	token, err := issuer.Mint(stage.Token{Alg: "RS256", Claims: claims})
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("ISSUER", issuer.URL(), "SINK", discard(t)).Replace(globals)
	upstream := frugal(t)
	const guarded = "telemetry\naudit\nproblem\njwt main {\n\trequire scope orders:read\n\tforward sub X-User-Id\n}\n" +
		"rate_limit {\n\tzone per_user {\n\t\tkey {http.auth.user.id}\n\t\trate 1000000/1s\n\t}\n}\n"
	tell := func(name, site, token string, status int) (allocs float64) {
		t.Run(name, func(t *testing.T) {
			server := load(t, config+"http://127.0.0.1:0 {\n"+strings.ReplaceAll(site, "UPSTREAM", upstream)+"}\n")
			header := http.Header{"Accept": {"*/*"}, "User-Agent": {"bench"}}
			if token != "" {
				header.Set("Authorization", "Bearer "+token)
			}
			w := &blank{header: make(http.Header, 8)}
			send := func() {
				r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1/orders/17?full=1", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.RequestURI, r.RemoteAddr, r.Header = "/orders/17?full=1", "192.0.2.7:40000", header.Clone()
				clear(w.header)
				w.status = 0
				server.ServeHTTP(w, r)
			}
			for range 50 {
				send()
			}
			if w.status != status {
				t.Fatalf("answered with %d, not %d", w.status, status)
			}
			allocs = testing.AllocsPerRun(100, send)
			for range 9 { // the least: what runs beside, such as a fetch of keys, is not the request's
				allocs = min(allocs, testing.AllocsPerRun(100, send))
			}
		})
		return allocs
	}
	count := func(name, site string) float64 { return tell(name, site, token, http.StatusOK) }
	stock := count("stock", "reverse_proxy UPSTREAM\n")
	bare := count("breaker_proxy", "breaker_proxy UPSTREAM\n")
	direct := count("breaker_proxy, lean off", "breaker_proxy UPSTREAM {\n\tlean off\n}\n")
	whole := count("whole chain", guarded+"breaker_proxy UPSTREAM\n")
	const shut = "jwt main\nbreaker_proxy UPSTREAM\n"
	missing := tell("no token", "problem\n"+shut, "", http.StatusUnauthorized)
	over := tell("over the limit", "problem\nrate_limit {\n\tzone all {\n\t\tkey static\n\t\trate 1/1h\n\t}\n}\n"+shut, token, http.StatusTooManyRequests)
	t.Logf("stock %.0f, breaker_proxy %.0f, lean off %.0f, whole chain %.0f, no token %.0f, over the limit %.0f", stock, bare, direct, whole, missing, over)
	for _, c := range []struct {
		name        string
		got, atMost float64
	}{
		{"breaker_proxy", bare, 0.65 * stock},
		{"breaker_proxy, lean off", direct, stock},
		{"the whole chain", whole, 0.5 * stock},
		{"the guards of the whole chain", whole - bare, 0.075 * stock},
		{"a refusal for want of a token", missing, 0.45 * stock},
		{"a refusal over the limit", over, 0.52 * stock},
	} {
		if c.got > c.atMost {
			t.Errorf("%s allocates %.0f times a request, a bare reverse_proxy %.0f; at most %.0f are allowed", c.name, c.got, stock, c.atMost)
		}
	}
}

// frugal is an upstream that answers every piece it reads and allocates nothing.
func frugal(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: 2\r\n\r\nok")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 16<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil && err != io.EOF {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
