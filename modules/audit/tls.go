package audit

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// TLS is how a sink and we know each other.
type TLS struct {
	// CA is a PEM file with the authorities that may vouch for the far side.
	// Default: those of the system.
	CA string `json:"ca,omitempty"`

	// Cert and Key are PEM files with which we identify ourselves. They are
	// read at each handshake. Default: none.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// Options are the words for it in a Caddyfile.
func (t *TLS) Options() []syntax.Option {
	return []syntax.Option{
		{Name: "ca", Read: syntax.Text(&t.CA)},
		{Name: "cert", Read: syntax.Text(&t.Cert)},
		{Name: "key", Read: syntax.Text(&t.Key)},
	}
}

// Config reads the files.
func (t *TLS) Config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no certificate", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("'cert' and 'key' go together")
	}
	if t.Cert != "" {
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		cert, key := t.Cert, t.Key
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
	}
	return c, nil
}

// Loopback says whether host is this machine, to which clear text may go.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
