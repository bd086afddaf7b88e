package wire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// identity is the certificate of every origin, and of the clients that have one.
var identity = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template(), template(), &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

func template() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "origin"}, DNSNames: []string{"origin.example"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
}

func authority() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(identity().Leaf)
	return pool
}

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{identity()}, DynamicRecordSizingDisabled: true}
}

// server is a TLS upstream of net/http's own that says what it was shown.
func server(t *testing.T, set func(*tls.Config)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName, " ", r.TLS.NegotiatedProtocol, " ", len(r.TLS.PeerCertificates))
	}))
	s.TLS = serverTLS()
	set(s.TLS)
	s.EnableHTTP2 = len(s.TLS.NextProtos) > 0
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// ask returns what one request over rt brings, the kind of its error included.
func ask(t *testing.T, rt http.RoundTripper, addr string) string {
	t.Helper()
	req := to(addr, get())
	req.URL.Scheme = "https"
	if w, ok := rt.(*Transport); ok && !w.Does(req) {
		t.Fatal("not done")
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		var untrusted x509.UnknownAuthorityError
		var named x509.HostnameError
		var slow net.Error
		return fmt.Sprintf("%s (untrusted %v, misnamed %v, timeout %v)", port.ReplaceAllString(err.Error(), "CONN"),
			errors.As(err, &untrusted), errors.As(err, &named), errors.As(err, &slow) && slow.Timeout())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return fmt.Sprint(string(body), err)
}

func TestHandshakesEndAsNetHTTPs(t *testing.T) {
	for name, c := range map[string]struct {
		server func(*tls.Config)
		client func(*http.Transport)
		want   string
	}{
		"the address is the name": {want: "HTTP/1.1   0"},
		"a name of its own":       {client: func(b *http.Transport) { b.TLSClientConfig.ServerName = "origin.example" }, want: "HTTP/1.1 origin.example  0"},
		"another's name":          {client: func(b *http.Transport) { b.TLSClientConfig.ServerName = "evil.example" }, want: "misnamed true"},
		"another's name, unasked": {client: func(b *http.Transport) {
			b.TLSClientConfig.ServerName, b.TLSClientConfig.InsecureSkipVerify = "evil.example", true
		}, want: "HTTP/1.1 evil.example  0"},
		"not trusted": {client: func(b *http.Transport) { b.TLSClientConfig.RootCAs = x509.NewCertPool() }, want: "untrusted true"},
		"a client certificate": {server: func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, authority() },
			client: func(b *http.Transport) { b.TLSClientConfig.Certificates = []tls.Certificate{identity()} }, want: "HTTP/1.1   1"},
		"too old": {server: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
			client: func(b *http.Transport) { b.TLSClientConfig.MinVersion = tls.VersionTLS13 }, want: "protocol version not supported"},
		"TLS 1.2": {server: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, want: "HTTP/1.1   0"},
		"HTTP/1.1 agreed on": {server: func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
			client: func(b *http.Transport) { b.TLSClientConfig.NextProtos = []string{"http/1.1"} }, want: "HTTP/1.1  http/1.1 0"},
		"nothing agreed on": {server: func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
			client: func(b *http.Transport) { b.TLSClientConfig.NextProtos = []string{"spdy"} }, want: "no application protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			base := dialer()
			if c.client != nil {
				c.client(base)
			}
			defer base.CloseIdleConnections()
			if c.server == nil {
				c.server = func(*tls.Config) {}
			}
			s := server(t, c.server)
			pool := NewPool(4, 0)
			defer pool.Close()
			want := ask(t, base, s.Listener.Addr().String())
			got := ask(t, New(base, pool), s.Listener.Addr().String())
			if got != want || !strings.Contains(got, c.want) {
				t.Errorf("got %q, net/http %q, want %q", got, want, c.want)
			}
		})
	}
}

// TestAClientWithoutItsCertificate hears so from the upstream, at what time is
// chance: compared is that the request fails.
func TestAClientWithoutItsCertificate(t *testing.T) {
	s := server(t, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	for _, rt := range []http.RoundTripper{dialer(), New(dialer(), NewPool(1, 0))} {
		if got := ask(t, rt, s.Listener.Addr().String()); strings.HasPrefix(got, "HTTP") {
			t.Errorf("%T: %s", rt, got)
		}
	}
}

func TestAHandshakeThatTakesTooLong(t *testing.T) {
	_, _, host, _ := scene(t, false) // nobody shakes hands there
	base := dialer()
	base.TLSHandshakeTimeout = 20 * time.Millisecond
	want := ask(t, base, host)
	if got := ask(t, New(base, NewPool(1, 0)), host); got != want || !strings.Contains(got, "timeout true") {
		t.Errorf("got %q, net/http %q", got, want)
	}
}

func TestACallerWhoLeavesDuringTheHandshake(t *testing.T) {
	_, _, host, next := scene(t, false)
	reason := errors.New("the client left")
	ctx, leave := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		req := to(host, get()).WithContext(ctx)
		req.URL.Scheme = "https"
		_, err := New(dialer(), NewPool(1, 0)).RoundTrip(req)
		ended <- err
	}()
	c := next()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	leave(reason)
	if err := <-ended; !errors.Is(err, reason) {
		t.Errorf("error %v, want %v", err, reason)
	}
	gone(t, c)
}

// TestAnUpstreamThatHasTheChoice is net/http's until an answer shows that it
// speaks HTTP/1.1, and again when it has changed its mind.
func TestAnUpstreamThatHasTheChoice(t *testing.T) {
	var mu sync.Mutex
	speaks := []string{"http/1.1"}
	s := server(t, func(c *tls.Config) {
		c.NextProtos = []string{"h2", "http/1.1"}
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			chosen := serverTLS()
			chosen.NextProtos = speaks
			return chosen, nil
		}
	})
	base := dialer()
	base.ForceAttemptHTTP2 = true
	if res, err := base.RoundTrip(secured(s, get())); err != nil { // configures HTTP/2, as Caddy does
		t.Fatal(err)
	} else {
		_ = res.Body.Close()
	}
	base.ForceAttemptHTTP2 = false
	pool := NewPool(4, 0)
	defer pool.Close()
	rt := New(base, pool)
	if rt.Does(secured(s, get())) {
		t.Fatal("done before it is known what the upstream speaks")
	}
	res, err := base.RoundTrip(secured(s, get()))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	rt.Heard(secured(s, get()), res)
	if got := ask(t, rt, s.Listener.Addr().String()); got != "HTTP/1.1  http/1.1 0<nil>" {
		t.Errorf("the upstream that chose HTTP/1.1 says %q", got)
	}
	mu.Lock()
	speaks = []string{"h2"}
	mu.Unlock()
	pool.Close()
	base.CloseIdleConnections()
	if got := ask(t, rt, s.Listener.Addr().String()); got != "HTTP/2.0  h2 0<nil>" {
		t.Errorf("the upstream that chose HTTP/2 says %q", got)
	}
	if rt.Does(secured(s, get())) {
		t.Error("done although the upstream speaks HTTP/2")
	}
}

func secured(s *httptest.Server, r *http.Request) *http.Request {
	r.URL.Scheme = "https"
	return to(s.Listener.Addr().String(), r)
}

// TestConnectionsAreSharedByEqualTrustOnly has the files that a configuration
// names change between two loads of it.
func TestConnectionsAreSharedByEqualTrustOnly(t *testing.T) {
	pool := NewPool(4, 0)
	with := func(set func(*tls.Config)) int {
		base := dialer()
		set(base.TLSClientConfig)
		return New(base, pool).tls
	}
	other := func() tls.Certificate {
		c := identity()
		c.Certificate = [][]byte{bytes.Clone(c.Certificate[0][1:])}
		return c
	}()
	plain := func(*tls.Config) {}
	first := with(plain)
	for _, c := range []struct {
		name string
		set  func(*tls.Config)
		same bool
	}{
		{"equal", plain, true},
		{"other authorities", func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, false},
		{"the system's authorities", func(c *tls.Config) { c.RootCAs = nil }, false},
		{"another certificate", func(c *tls.Config) { c.Certificates = []tls.Certificate{other} }, false},
		{"a certificate that comes by itself", func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &other, nil }
		}, false},
	} {
		if got := with(c.set); (got == first) != c.same {
			t.Errorf("%s: configurations %d and %d, same should be %v", c.name, first, got, c.same)
		}
		first = with(plain)
	}
}
