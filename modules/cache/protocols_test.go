package cache

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddytls"
	_ "github.com/caddyserver/caddy/v2/modules/caddytls/standardstek"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"github.com/quic-go/quic-go/http3"

	"github.com/sallyport-gateway/sallyport/test/port"
)

// certificate returns a certificate for localhost and its key, as PEM.
func certificate(t *testing.T) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}

// serveAll starts a gateway over HTTP/1.1, HTTP/2 and HTTP/3 in front of the
// origin, and returns its address and a client for each.
func serveAll(t *testing.T, origin string) (string, map[string]*http.Client) {
	t.Helper()
	address := port.Addr(t)
	cert, key := certificate(t)
	config := fmt.Sprintf(`{"admin":{"disabled":true},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}},
		"storage":{"module":"file_system","root":%q},"apps":{"tls":{"certificates":{"load_pem":[{"certificate":%q,"key":%q}]}},"http":{"servers":{"s":{
		"listen":[%q],"protocols":["h1","h2","h3"],"automatic_https":{"disable":true},"tls_connection_policies":[{}],
		"routes":[{"handle":[{"handler":"http_cache","name":%q},{"handler":"reverse_proxy","flush_interval":-1,"upstreams":[{"dial":%q}]}]}]}}}}}`,
		t.TempDir(), cert, key, address, t.Name(), strings.TrimPrefix(origin, "http://"))
	var c caddy.Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Run(&c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	trust := func() *tls.Config { return &tls.Config{RootCAs: roots, ServerName: "localhost"} }
	one, two := new(http.Protocols), new(http.Protocols)
	one.SetHTTP1(true)
	two.SetHTTP2(true)
	clients := map[string]*http.Client{
		"HTTP/1.1": {Transport: &http.Transport{TLSClientConfig: trust(), Protocols: one, DisableCompression: true}},
		"HTTP/2.0": {Transport: &http.Transport{TLSClientConfig: trust(), Protocols: two, DisableCompression: true}},
		"HTTP/3.0": {Transport: &http3.Transport{TLSClientConfig: trust(), DisableCompression: true}},
	}
	t.Cleanup(func() {
		for _, client := range clients {
			client.CloseIdleConnections()
		}
		_ = clients["HTTP/3.0"].Transport.(*http3.Transport).Close()
	})
	return address, clients
}

// TestProtocols: what one client brought in over one protocol the others get
// over theirs; an answer streams while it is kept; and its trailers go to who
// asked for it first and are not kept.
func TestProtocols(t *testing.T) {
	var asked atomic.Int64
	var body atomic.Value
	hold := make(chan struct{}, 8)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		sent, _ := io.ReadAll(r.Body)
		body.Store(string(sent))
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "begin ")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, "end")
		w.Header().Set("X-Sum", "abc")
	}))
	defer origin.Close()
	address, clients := serveAll(t, origin.URL)
	_, at, _ := strings.Cut(address, ":")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	get := func(t *testing.T, proto, path string, fields ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://localhost:"+at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			r.Header.Set(name, value)
		}
		resp, err := clients[proto].Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Proto != proto {
			t.Fatalf("the answer came over %s, want %s", resp.Proto, proto)
		}
		return resp
	}
	text := func(t *testing.T, resp *http.Response) string {
		t.Helper()
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for _, first := range []string{"HTTP/1.1", "HTTP/2.0", "HTTP/3.0"} {
		t.Run(first, func(t *testing.T) {
			path, before := "/"+strings.ReplaceAll(first, "/", "-"), asked.Load()
			resp := get(t, first, path)
			begin := make([]byte, len("begin "))
			if _, err := io.ReadFull(resp.Body, begin); err != nil || string(begin) != "begin " {
				t.Fatalf("before the end came: %q, %v", begin, err)
			}
			// A second client reads along, over another protocol.
			other := get(t, "HTTP/2.0", path)
			if _, err := io.ReadFull(other.Body, begin); err != nil || !strings.Contains(other.Header.Get("Cache-Status"), "collapsed") {
				t.Errorf("who reads along: %v, %q", err, other.Header.Get("Cache-Status"))
			}
			hold <- struct{}{}
			if rest := text(t, resp); rest != "end" || resp.Trailer.Get("X-Sum") != "abc" {
				t.Errorf("the first client got %q and the trailers %v", rest, resp.Trailer)
			}
			if rest := text(t, other); rest != "end" {
				t.Errorf("who read along got %q", rest)
			}
			for proto := range clients {
				w := get(t, proto, path)
				if body := text(t, w); body != "begin end" || w.Header.Get("Age") == "" || len(w.Trailer) > 0 || w.ContentLength != 9 {
					t.Errorf("%s: %q, Age %q, length %d, trailers %v", proto, body, w.Header.Get("Age"), w.ContentLength, w.Trailer)
				}
				if part := get(t, proto, path, "Range: bytes=6-"); part.StatusCode != http.StatusPartialContent || text(t, part) != "end" {
					t.Errorf("%s: a part is answered with %d", proto, part.StatusCode)
				}
			}
			if n := asked.Load() - before; n != 1 {
				t.Errorf("the origin was asked %d times, want once", n)
			}
		})
	}
	for proto := range clients {
		resp := get(t, proto, "/grpc", "Content-Type: application/grpc")
		hold <- struct{}{}
		if got := resp.Header.Get("Cache-Status"); text(t, resp) != "begin end" || !strings.Contains(got, "bypass; detail=grpc") {
			t.Errorf("%s: a gRPC request has Cache-Status %q", proto, got)
		}
	}
	// A body counts, also where its length is not told before.
	for proto := range clients {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://localhost:"+at+"/HTTP-1.1", io.MultiReader(strings.NewReader("of unknown length")))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := clients[proto].Do(r)
		if err != nil {
			t.Fatal(err)
		}
		hold <- struct{}{}
		if got := resp.Header.Get("Cache-Status"); text(t, resp) != "begin end" || !strings.Contains(got, "bypass; detail=body") || body.Load() != "of unknown length" {
			t.Errorf("%s: a GET with a body has Cache-Status %q, and the origin got %q", proto, got, body.Load())
		}
	}
}
