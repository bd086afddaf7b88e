package jwtauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// certificate makes a self-signed one for 127.0.0.1, usable on either side.
func certificate(t *testing.T) (tls.Certificate, *x509.Certificate, *mint.Key) {
	t.Helper()
	k := newKey(t, "ES256", "")
	private, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(private)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, cert, k
}

// files writes the certificate and its key as PEM.
func files(t *testing.T, cert *x509.Certificate, key *mint.Key) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	private, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), "key.pem": private,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// bound is a token that is bound to the certificate.
func (i *idp) bound(t *testing.T, cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return i.token(t, map[string]any{"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}})
}

// clientCert is the header in which a proxy tells a certificate.
func clientCert(cert *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":"
}

// RFC 8705: a token that is bound to a client certificate works over a TLS
// connection with that certificate and no other way.
func TestCertificateBoundToken(t *testing.T) {
	i := newIDP(t, "EdDSA")
	_, serverCert, serverKey := certificate(t)
	mine, cert, _ := certificate(t)
	theirs, _, _ := certificate(t)
	certFile, keyFile := files(t, serverCert, serverKey)
	address := freeAddress(t)
	port := address[strings.LastIndexByte(address, ':')+1:]
	g := new(gateway)
	g.run(t, func() (string, string) {
		site := func(url, jwt string) string {
			return "} \n" + url + " {\n tls " + certFile + " " + keyFile + " {\n client_auth {\n mode request\n }\n}\n" + jwt + "\nrespond ok\n"
		}
		return "auto_https disable_redirects\n" + i.global(""), "respond ok\n" + site("https://localhost:"+port, "jwt main")
	})
	tok := i.bound(t, cert)
	roots := x509.NewCertPool()
	roots.AddCert(serverCert)
	for _, c := range []struct {
		name   string
		certs  []tls.Certificate
		header string
		status int
	}{
		{"its certificate", []tls.Certificate{mine}, "", 200},
		{"another certificate", []tls.Certificate{theirs}, "", 401},
		{"no certificate", nil, "", 401},
		{"its certificate in a header", nil, clientCert(cert), 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: c.certs, ServerName: "localhost"}}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost:"+port+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+tok)
			if c.header != "" {
				req.Header.Set("Client-Cert", c.header)
			}
			resp, err := (&http.Client{Transport: transport}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != c.status {
				t.Errorf("%d %s, want %d", resp.StatusCode, body, c.status)
			}
		})
	}
}

// RFC 9440: a proxy at which TLS ends tells the certificate; nobody else does.
func TestCertificateToldByProxy(t *testing.T) {
	i := newIDP(t, "EdDSA")
	_, cert, _ := certificate(t)
	_, other, _ := certificate(t)
	tok := i.bound(t, cert)
	told := clientCert(cert)
	const jwt = "jwt main {\n client_cert_header\n}"
	behind, open, off := new(gateway), launch(t, i, "", jwt), new(gateway)
	const trusting = "servers {\n trusted_proxies static 127.0.0.1/32\n}\n"
	behind.run(t, func() (string, string) { return trusting + i.global(""), jwt + "\nrespond ok" })
	off.run(t, func() (string, string) { return trusting + i.global(""), "jwt main\nrespond ok" })
	for _, c := range []struct {
		name   string
		g      *gateway
		header []string
		status int
	}{
		{"from the proxy", behind, []string{told}, 200},
		{"another's", behind, []string{clientCert(other)}, 401},
		{"none", behind, nil, 401},
		{"two", behind, []string{told, told}, 401},
		{"no byte sequence", behind, []string{strings.Trim(told, ":")}, 401},
		{"no base64", behind, []string{":*:"}, 401},
		{"empty", behind, []string{"::"}, 401},
		{"from anybody", open, []string{told}, 401},
		{"without the option", off, []string{told}, 401},
	} {
		headers := make([]string, 0, 4)
		for _, value := range c.header {
			headers = append(headers, "Client-Cert", value)
		}
		if a := c.g.get(t, tok, headers...); a.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.status)
		}
	}
	if a := open.get(t, i.token(t), "Client-Cert", told, "Client_cert_chain", told); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name := range open.upstreamSaw(t).Header {
		if strings.HasPrefix(strings.ToLower(name), "client") {
			t.Errorf("the upstream got %s of somebody who is no proxy", name)
		}
	}
}

// The fetch shows its own certificate to an issuer that demands one.
func TestFetchWithClientCertificate(t *testing.T) {
	i := newIDP(t, "EdDSA")
	serverPair, serverCert, serverKey := certificate(t)
	_, cert, key := certificate(t)
	clients := x509.NewCertPool()
	clients.AddCert(cert)
	server := httptest.NewUnstartedServer(http.HandlerFunc(i.serve))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{serverPair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca, _ := files(t, serverCert, serverKey)
	certFile, keyFile := files(t, cert, key)
	url := "https://localhost:" + server.URL[strings.LastIndexByte(server.URL, ':')+1:]
	for options, want := range map[string]int{
		"client_certificate " + certFile + " " + keyFile: 200, "": 503,
	} {
		g := launch(t, i, "jwks "+url+"\nca "+ca+"\n"+options, "jwt main")
		if a := g.get(t, i.token(t)); a.status != want {
			t.Errorf("with %q: %d %s, want %d", options, a.status, a.body, want)
		}
	}
}
