package keyset

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// proxy is a forward proxy that leads every host to the servers of the test,
// and what it was asked for.
func proxy(t *testing.T, plain http.HandlerFunc, secure *httptest.Server) (through func(*http.Request) (*url.URL, error), asked *[]string) {
	asked = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.RequestURI)
		if r.Method != http.MethodConnect {
			plain(w, r)
			return
		}
		to, err := net.Dial("tcp", secure.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		from, read, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		go func() {
			_, _ = io.Copy(to, read) // the server may have read the first byte already
			to.Close()
		}()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return http.ProxyURL(at), asked
}

// A proxy is where the operator says, on a private network too; what is
// fetched through it is still checked as far as it can be from here.
func TestFetchThroughProxy(t *testing.T) {
	body := first()
	keys := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
	secure := httptest.NewTLSServer(http.HandlerFunc(keys))
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	through, asked := proxy(t, keys, secure)
	for _, c := range []struct{ name, url, asks, reason string }{
		{"plain", "http://idp.internal/keys", "GET http://idp.internal/keys", ""},
		{"TLS to the issuer itself", "https://example.com/keys", "CONNECT example.com:443", ""},
		{"TLS to somebody else", "https://idp.example.org/keys", "CONNECT idp.example.org:443", "tls"},
		{"cloud metadata", "http://169.254.169.254/keys", "", "address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			*asked = nil
			h := &HTTP{URL: c.url, Insecure: true, Proxy: through, TLS: &tls.Config{RootCAs: roots}}
			d, err := h.Fetch(t.Context(), "", "")
			if reason(err) != c.reason || c.reason == "" && !bytes.Equal(d.Body, body) {
				t.Errorf("%q, %v; want %q", d.Body, err, c.reason)
			}
			if got := append(*asked, "")[0]; got != c.asks {
				t.Errorf("the proxy was asked for %q, want %q", got, c.asks)
			}
		})
	}
}

// Metadata may not lead to an address that the operator did not write, through
// a proxy or without.
func TestMetadataLeadsNowherePrivate(t *testing.T) {
	for _, keys := range []string{"http://10.0.0.1/keys", "http://127.0.0.1:1/keys"} {
		metadata := func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"issuer":"http://idp.internal","jwks_uri":"` + keys + `"}`))
		}
		through, asked := proxy(t, metadata, nil)
		d := &Discovery{Issuer: "http://idp.internal", HTTP: HTTP{Insecure: true, Proxy: through}}
		if _, err := d.Fetch(t.Context(), "", ""); reason(err) != "address" || len(*asked) != 1 {
			t.Errorf("%s: %v, the proxy was asked for %q", keys, err, *asked)
		}
	}
}

// What the proxy says no to is fetched from the server itself, and checked.
func TestNoProxy(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(first()) }))
	defer server.Close()
	none := func(*http.Request) (*url.URL, error) { return nil, nil }
	if _, err := (&HTTP{URL: server.URL, Proxy: none}).Fetch(t.Context(), "", ""); err != nil {
		t.Error(err)
	}
	h := &HTTP{URL: "http://idp.internal/", Proxy: none}
	if err := h.control("tcp", server.Listener.Addr().String(), nil); err == nil {
		t.Error("a name may lead to loopback")
	}
}
