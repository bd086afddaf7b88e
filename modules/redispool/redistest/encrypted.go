package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/port"
)

// Encrypted is a server that speaks TLS at URL, to clients whose certificate its
// Authority has signed, and without TLS at Addr. Its files lie in Dir: ca, server
// and client, each with .crt and .key.
type Encrypted struct {
	*Server
	URL, Dir  string
	Authority *Authority
}

// StartEncrypted is Start for an encrypted server.
func StartEncrypted(tb testing.TB) *Encrypted {
	tb.Helper()
	e := &Encrypted{Dir: tb.TempDir()}
	e.Authority = NewAuthority(tb, e.Dir, "ca")
	e.Authority.Issue("server")
	e.Authority.Issue("client")
	addr := port.Addr(tb)
	_, number, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	e.Server = Start(tb, "--tls-port", number, "--tls-cert-file", e.File("server.crt"), "--tls-key-file", e.File("server.key"),
		"--tls-ca-cert-file", e.File("ca.crt"), "--tls-auth-clients", "yes")
	e.URL = "rediss://" + addr
	return e
}

// File is the path of a file in the server's folder.
func (e *Encrypted) File(name string) string { return filepath.Join(e.Dir, name) }

// Authority signs certificates for 127.0.0.1.
type Authority struct {
	tb   testing.TB
	dir  string
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority and writes name.crt and name.key to dir.
func NewAuthority(tb testing.TB, dir, name string) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, dir: dir}
	a.root, a.key = a.issue(name)
	return a
}

// Issue writes a certificate and its key to name.crt and name.key, in place of
// those that are there.
func (a *Authority) Issue(name string) {
	a.tb.Helper()
	a.issue(name)
}

func (a *Authority) issue(name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.tb.Helper()
	must := func(err error) {
		a.tb.Helper()
		if err != nil {
			a.tb.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	form := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		IsCA: a.root == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	root, signer := a.root, a.key
	if root == nil {
		root, signer = form, key
	}
	der, err := x509.CreateCertificate(rand.Reader, form, root, &key.PublicKey, signer)
	must(err)
	private, err := x509.MarshalECPrivateKey(key)
	must(err)
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		must(os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600))
	}
	made, err := x509.ParseCertificate(der)
	must(err)
	return made, key
}
