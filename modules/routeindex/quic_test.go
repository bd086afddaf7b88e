package routeindex

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// HTTP/3 comes past the listeners that are wrapped, and finds the same routes;
// also where it is all that the server speaks, and no listener is wrapped.
func TestRoutesOverQUIC(t *testing.T) {
	dir := t.TempDir()
	redistest.NewAuthority(t, dir, "localhost")
	cert := filepath.Join(dir, "localhost.crt")
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	for _, protocols := range []string{"h1 h2 h3", "h3"} {
		t.Run(protocols, func(t *testing.T) {
			_, at, _ := strings.Cut(gateway.Addr(t), ":")
			addr := "localhost:" + at
			routes := strings.NewReplacer("http://", "https://", "{\n\thandle /route-0/", "{\n\ttls "+cert+" "+filepath.Join(dir, "localhost.key")+"\n\thandle /route-0/")
			gateway.Run(t, strings.Replace(globals(""), "servers {\n", "servers {\n\t\tprotocols "+protocols+"\n", 1)+routes.Replace(site(addr, 20, "v")))
			transport := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
			defer transport.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, n := range []int{0, 7, 19} {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s/route-%d/x", addr, n), nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if want := fmt.Sprint("v ", n); err != nil || string(body) != want || res.ProtoMajor != 3 {
					t.Errorf("%s %q, %v; want %q over HTTP/3", res.Proto, body, err, want)
				}
			}
			if got := gathered(t, "sallyport_route_index_routes"); got["srv0 indexed"] != 20 || got["srv0 left"] != 0 {
				t.Errorf("the routes are not looked up: %v", got)
			}
		})
	}
}
