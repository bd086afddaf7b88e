package audit_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// status answers the first n requests with a status.
func status(n, code int, header ...string) func(*farSide, http.ResponseWriter, *http.Request, []place) bool {
	return func(f *farSide, w http.ResponseWriter, _ *http.Request, _ []place) bool {
		if f.try() > n {
			return false
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		return true
	}
}

var faults = []fault{
	{name: "none"},
	{name: "500 twice", misbehave: status(2, 500)},
	{name: "429 with Retry-After", waits: time.Second, misbehave: status(1, 429, "Retry-After", "1")},
	{name: "503 with Retry-After", waits: time.Second, misbehave: status(2, 503, "Retry-After", "1")},
	{name: "425", misbehave: status(1, 425)},
	{name: "poison", misbehave: func(f *farSide, w http.ResponseWriter, _ *http.Request, batch []place) bool {
		bad := slices.ContainsFunc(batch, func(p place) bool { return p.path == "/poison" })
		if bad {
			f.reject(w)
		}
		return bad
	}},
	{name: "batches of ten", misbehave: func(_ *farSide, w http.ResponseWriter, _ *http.Request, batch []place) bool {
		if len(batch) > 10 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
		return len(batch) > 10
	}},
	{name: "hangs once", misbehave: func(f *farSide, _ http.ResponseWriter, r *http.Request, _ []place) bool {
		if f.try() > 1 {
			return false
		}
		<-r.Context().Done()
		return true
	}},
	{name: "resets", misbehave: func(f *farSide, w http.ResponseWriter, _ *http.Request, _ []place) bool {
		if f.try() > 2 {
			return false
		}
		hangUp(w, "")
		return true
	}},
	{name: "accepts and cuts", doubles: true, misbehave: func(f *farSide, w http.ResponseWriter, _ *http.Request, batch []place) bool {
		if f.try() > 1 {
			return false
		}
		f.keep(batch)
		hangUp(w, "HTTP/1.1 200 O")
		return true
	}},
	{name: "cuts the body", doubles: true, misbehave: func(f *farSide, w http.ResponseWriter, _ *http.Request, batch []place) bool {
		if f.try() > 1 {
			return false
		}
		f.keep(batch)
		hangUp(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		return true
	}},
	{name: "drips", misbehave: func(f *farSide, w http.ResponseWriter, r *http.Request, batch []place) bool {
		if f.try() > 3 {
			return false
		}
		f.keep(batch)
		w.WriteHeader(http.StatusOK)
		for range 5 {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
		return true
	}},
	{name: "no gzip", only: "http", misbehave: func(_ *farSide, w http.ResponseWriter, r *http.Request, _ []place) bool {
		packed := r.Header.Get("Content-Encoding") != ""
		if packed {
			w.WriteHeader(http.StatusUnsupportedMediaType)
		}
		return packed
	}},
	{name: "token is renewed", setup: renewedToken, misbehave: func(_ *farSide, w http.ResponseWriter, r *http.Request, _ []place) bool {
		old := r.Header.Get("Authorization") != "Bearer new"
		if old {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return old
	}},
	{name: "goes away", setup: func(t *testing.T, f *farSide) { overTLS(t, f, 0) }, misbehave: func(f *farSide, w http.ResponseWriter, _ *http.Request, _ []place) bool {
		// In HTTP/2 this is a GOAWAY.
		w.Header().Set("Connection", "close")
		if f.try() == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return f.try() == 1
	}},
	{name: "certificate of another", setup: func(t *testing.T, f *farSide) { overTLS(t, f, 2) }},
	{name: "wants our certificate", setup: mutualTLS},
}

// hangUp sends text as it is and resets the connection.
func hangUp(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte(text))
	if text == "" {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	_ = conn.Close()
}

// renewedToken puts the token into a file, which holds an old one when the
// gateway starts.
func renewedToken(t *testing.T, f *farSide) {
	path := filepath.Join(t.TempDir(), "token")
	put(t, path, []byte("old"))
	f.option = "token {file." + path + "}"
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		put(t, path, []byte("new"))
		f.ServeHTTP(w, r)
	})
	f.Start()
}

// overTLS has the server show the certificate of somebody else, and one that
// has expired, in the first handshakes.
func overTLS(t *testing.T, f *farSide, wrong int) {
	ours, others := authority(t), authority(t)
	right := ours.sign(t, time.Hour)
	shown := 0
	f.EnableHTTP2 = true
	f.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		shown++
		show := right
		switch {
		case shown > wrong:
		case shown == 1:
			show = others.sign(t, time.Hour)
		default:
			show = ours.sign(t, -time.Hour)
		}
		return &tls.Config{Certificates: []tls.Certificate{*show}, NextProtos: []string{"h2", "http/1.1"}}, nil
	}}
	f.option = "ca " + ours.file
	f.StartTLS()
}

func mutualTLS(t *testing.T, f *farSide) {
	a := authority(t)
	mine := a.sign(t, time.Hour)
	key, err := x509.MarshalPKCS8PrivateKey(mine.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := filepath.Join(filepath.Dir(a.file), "client.pem")
	put(t, cert, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mine.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...))
	f.TLS = &tls.Config{Certificates: []tls.Certificate{*a.sign(t, time.Hour)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool}
	f.option = "ca " + a.file + "\n cert " + cert + "\n key " + cert
	f.StartTLS()
}

// issuing is an authority with its certificate in a file.
type issuing struct {
	file string
	pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func authority(t *testing.T) *issuing {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &issuing{file: filepath.Join(t.TempDir(), "ca.pem"), pool: x509.NewCertPool(), key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	put(t, a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// sign makes a certificate for this host that is good for the time given.
func (a *issuing) sign(t *testing.T, life time.Duration) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
		return nil
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(life), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Error(err)
		return nil
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func put(t *testing.T, path string, text []byte) {
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Error(err)
	}
}
