package redispool

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// TLS says whom to trust and, for mutual TLS, who we are.
type TLS struct {
	// CA is a file of PEM certificates to trust. Default: the system's.
	CA string `json:"ca,omitempty"`
	// Certificate and Key are PEM files. They are read anew for every
	// connection, so a renewed certificate needs no reload.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// ServerName is the name to verify. Default: the host of the address.
	ServerName string `json:"server_name,omitempty"`
}

func (t *TLS) digest() (string, error) {
	if (t.Certificate == "") != (t.Key == "") {
		return "", errors.New("tls: certificate needs a certificate file and a key file")
	}
	if t.Certificate != "" {
		if _, err := tls.LoadX509KeyPair(t.Certificate, t.Key); err != nil {
			return "", fmt.Errorf("tls certificate: %w", err)
		}
	}
	if t.CA == "" {
		return "", nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return "", fmt.Errorf("tls ca: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return "", fmt.Errorf("tls ca: %s holds no PEM certificate", t.CA)
	}
	sum := sha256.Sum256(pem)
	return hex.EncodeToString(sum[:]), nil
}

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t == nil {
		return c, nil
	}
	c.ServerName = t.ServerName
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM(pem)
	}
	if t.Certificate != "" {
		certificate, key := t.Certificate, t.Key
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(certificate, key)
			return &pair, err
		}
	}
	return c, nil
}
