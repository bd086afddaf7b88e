package jwtauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

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

// RFC 8705: a token that is bound to a client certificate works over a TLS
// connection with that certificate and no other way.
func TestCertificateBoundToken(t *testing.T) {
	i := newIDP(t, "EdDSA")
	_, serverCert, serverKey := certificate(t)
	mine, cert, _ := certificate(t)
	theirs, _, _ := certificate(t)
	dir := t.TempDir()
	private, err := serverKey.PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serverCert.Raw}), "key.pem": private,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := freeAddress(t)
	port := address[strings.LastIndexByte(address, ':')+1:]
	config := adapt(t, `{
		admin off
		persist_config off
		auto_https disable_redirects
		storage file_system `+dir+`
		issuer main {
			issuer `+i.URL+`
			jwks `+i.URL+`
			audience `+testAudience+`
		}
	}
	https://localhost:`+port+` {
		tls `+dir+`/cert.pem `+dir+`/key.pem {
			client_auth {
				mode request
			}
		}
		jwt main
		respond ok
	}`)
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	sum := sha256.Sum256(cert.Raw)
	tok := i.token(t, map[string]any{"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}})
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
		{"its certificate in a header", nil, ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":", 401},
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
