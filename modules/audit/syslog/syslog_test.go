package syslog

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// server is a syslog server over TLS that reads octet-counted messages.
type server struct {
	net.Listener
	ca       string
	messages chan string
	conns    chan net.Conn
}

func serve(t *testing.T) *server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{ca: filepath.Join(t.TempDir(), "ca.pem"), messages: make(chan string, 100), conns: make(chan net.Conn, 10)}
	if err := os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			s.conns <- c
			go s.read(c)
		}
	}()
	return s
}

func (s *server) read(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		length, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil {
			s.messages <- "no length: " + length
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		s.messages <- string(b)
	}
}

func batch(seqs ...uint64) audit.Batch {
	b := audit.Batch{Node: `gw"1]`}
	for _, n := range seqs {
		b.Events = append(b.Events, audit.Event{Mark: spool.Mark{Epoch: 7, Seq: n}, Time: time.Unix(1, 5000), Type: "sallyport.auth.refused", JSON: []byte(`{"n":"é"}`)})
	}
	return b
}

var rfc5424 = regexp.MustCompile(`^<109>1 1970-01-01T00:00:01\.000005Z \S+ sallyport \d+ sallyport\.auth\.refused \[sallyport@32473 node="gw\\"1\\]" epoch="7" seq="(\d+)"\] \x{feff}\{"n":"é"\}$`)

func TestDeliverOverTLS(t *testing.T) {
	far := serve(t)
	s := &Sink{Address: far.Addr().String()}
	s.CA = far.ca
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	deliver := func(seqs ...uint64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Deliver(ctx, batch(seqs...)); err != nil {
			t.Fatal(err)
		}
		for _, n := range seqs {
			got := <-far.messages
			if m := rfc5424.FindStringSubmatch(got); m == nil || m[1] != strconv.FormatUint(n, 10) {
				t.Errorf("message %d reads %q", n, got)
			}
		}
	}
	deliver(1, 2, 3)
	// The server restarts: the next batch goes over a new connection.
	first := <-far.conns
	first.Close()
	deliver(4)
	s.hangUp()
}

func TestCertificateOfSomebodyElse(t *testing.T) {
	far := serve(t)
	s := &Sink{Address: far.Addr().String()}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Deliver(ctx, batch(1)); err == nil {
		t.Error("a server that nobody vouches for is trusted")
	}
}
