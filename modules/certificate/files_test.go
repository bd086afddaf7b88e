package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	dto "github.com/prometheus/client_model/go"
)

// pair is the files of one certificate; serial tells it from others.
func pair(t *testing.T, serial int64, expires time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: expires}
	der, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// write writes a file whose time of change differs from every earlier one's.
func write(t *testing.T, path string, content []byte, age int) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Duration(age) * time.Minute)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestFilesFollowARenewal(t *testing.T) {
	dir := t.TempDir()
	f := &Files{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	first, second := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(48*time.Hour).Truncate(time.Second)
	cert, key := pair(t, 1, first)
	write(t, f.Certificate, cert, 0)
	write(t, f.Key, key, 0)

	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := f.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		f.lookedAt.Store(0) // the time of not looking has passed
		got, err := f.GetCertificate(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.SerialNumber.Int64()
	}
	expiry := func() float64 {
		t.Helper()
		f.lookedAt.Store(0)
		families, err := ctx.GetMetricsRegistry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "sallyport_certificate_expiry_timestamp_seconds" {
				var m *dto.Metric = family.Metric[0]
				return m.Gauge.GetValue()
			}
		}
		t.Fatal("the expiry is not among the metrics")
		return 0
	}
	if got := serial(); got != 1 {
		t.Fatalf("serves certificate %d, want 1", got)
	}
	if got := expiry(); got != float64(first.Unix()) {
		t.Errorf("the metric says %v, want %v", got, first.Unix())
	}

	newCert, newKey := pair(t, 2, second)
	write(t, f.Certificate, newCert, 1) // its key has not arrived yet
	if got := serial(); got != 1 {
		t.Errorf("with a key that does not fit it serves %d, want still 1", got)
	}
	write(t, f.Key, newKey, 1)
	if got := serial(); got != 2 {
		t.Errorf("after the renewal it serves %d, want 2", got)
	}
	if got := expiry(); got != float64(second.Unix()) {
		t.Errorf("the metric says %v, want %v", got, second.Unix())
	}

	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 2 {
		t.Errorf("with its files gone it serves %d, want still 2", got)
	}
}

func TestFilesRefuseToStart(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, 1, time.Now().Add(time.Hour))
	_, otherKey := pair(t, 2, time.Now().Add(time.Hour))
	for name, content := range map[string][]byte{"tls.crt": cert, "tls.key": key, "other.key": otherKey, "empty": nil} {
		write(t, filepath.Join(dir, name), content, 0)
	}
	tests := []struct{ name, certificate, key, want string }{
		{"no files", "", "", "takes two files"},
		{"no certificate", "gone.crt", "tls.key", "certificate: stat " + dir + "/gone.crt"},
		{"no key", "tls.crt", "gone.key", "key: stat " + dir + "/gone.key"},
		{"another's key", "tls.crt", "other.key", "does not match"},
		{"empty", "empty", "tls.key", "empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := new(Files)
			if tt.certificate != "" {
				f = &Files{Certificate: filepath.Join(dir, tt.certificate), Key: filepath.Join(dir, tt.key)}
			}
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			if err := f.Provision(ctx); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Provision: %v, want an error with %q", err, tt.want)
			}
		})
	}
}
