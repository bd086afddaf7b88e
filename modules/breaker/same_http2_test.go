package breaker

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestLeanAndStockAreTheSameOverHTTP2 has clients of HTTP/2, whose requests have
// no framing of their own.
func TestLeanAndStockAreTheSameOverHTTP2(t *testing.T) {
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)
	stream := func(method, body string, header ...string) func(url string) *http.Request {
		return func(url string) *http.Request {
			var r io.Reader
			if body != "" {
				r = io.MultiReader(strings.NewReader(body)) // of a length that nobody knows
			}
			req, err := http.NewRequestWithContext(t.Context(), method, url+"/a?b", r)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			return req
		}
	}
	for _, c := range []struct {
		name string
		ask  func(url string) *http.Request
		lean float64
	}{
		{"get", stream("GET", "", "Te", "trailers", "Cookie", "a=b; c=d"), 1},
		{"head", stream("HEAD", ""), 1},
		{"post", stream("POST", "body"), 1},
		{"delete with a body", stream("DELETE", "body"), 0},
		{"grpc-web", stream("POST", "00000", "Content-Type", "application/grpc-web"), 1},
		{"trailers", func(url string) *http.Request {
			req := stream("POST", "body")(url)
			req.Trailer = http.Header{"X-Sum": {"1"}}
			return req
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			play := func(h func(addr string) *gate) string {
				var text strings.Builder
				u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					fmt.Fprintf(&text, "%s %s %s %v %q %d %v %v\n", r.Proto, r.Method, r.URL, r.Header, body, r.ContentLength, r.TransferEncoding, r.Trailer)
					w.Header().Set("Trailer", "X-Sum")
					_, _ = io.WriteString(w, "answer")
					w.Header().Set("X-Sum", "2")
				}))
				defer u.Close()
				g := h(u.Listener.Addr().String())
				res, err := client.RoundTrip(c.ask(g.URL))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				res.Header.Del("Date")
				fmt.Fprintf(&text, "%s %s %v %q %v %v %d\n", res.Proto, res.Status, res.Header, body, err, res.Trailer, res.ContentLength)
				<-g.seen
				return ports.ReplaceAllString(text.String(), "HOST")
			}
			want := play(func(addr string) *gate { return front(t, stock(t, proxyTo(addr))) })
			before := testutil.ToFloat64(sentLean)
			got := play(func(addr string) *gate {
				return serve(t, build(t, `{"policy":{"name":"%s"},"proxy":`+proxyTo(addr)+`}`))
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("they differ (-reverse_proxy +lean):\n%s", diff)
			}
			if n := testutil.ToFloat64(sentLean) - before; n != c.lean {
				t.Errorf("%v went lean, want %v", n, c.lean)
			}
		})
	}
}
