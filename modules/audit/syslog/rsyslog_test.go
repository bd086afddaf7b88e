package syslog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

// rsyslog is the server that most hosts have, writing what it understood of
// each message as one line of JSON.
type rsyslog struct {
	t                *testing.T
	binary, dir, out string
	plain, tls       string // addresses
	proc             *stage.Process
}

// understood is a message as rsyslog has parsed it.
type understood struct{ Pri, Time, App, MsgID, SD, Version, Msg string }

const rsyslogConf = `global(workDirectory="%[1]s" maxMessageSize="64k"
	defaultNetstreamDriverCAFile="%[1]s/ca.pem" defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem")
module(load="imtcp")
template(name="line" type="list") {
	constant(value="{")
	property(name="pri" format="jsonf" outname="pri") constant(value=",")
	property(name="timereported" dateFormat="rfc3339" format="jsonf" outname="time") constant(value=",")
	property(name="app-name" format="jsonf" outname="app") constant(value=",")
	property(name="msgid" format="jsonf" outname="msgid") constant(value=",")
	property(name="structured-data" format="jsonf" outname="sd") constant(value=",")
	property(name="protocol-version" format="jsonf" outname="version") constant(value=",")
	property(name="msg" format="jsonf" outname="msg")
	constant(value="}\n")
}
ruleset(name="audit") { action(type="omfile" file="%[1]s/out.ndjson" template="line") }
input(type="imtcp" address="127.0.0.1" port="%[2]s" ruleset="audit")
input(type="imtcp" address="127.0.0.1" port="%[3]s" ruleset="audit"
	streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
`

func startRsyslog(t *testing.T) *rsyslog {
	t.Helper()
	r := &rsyslog{t: t, dir: t.TempDir()}
	var err error
	if r.binary, err = exec.LookPath("rsyslogd"); err != nil {
		if r.binary, err = exec.LookPath("/usr/sbin/rsyslogd"); err != nil {
			t.Skip("rsyslogd is not installed; `make test` installs it")
		}
	}
	r.out = filepath.Join(r.dir, "out.ndjson")
	certificates(t, r.dir)
	plain, err1 := stage.FreePort()
	secure, err2 := stage.FreePort()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	r.plain, r.tls = "127.0.0.1:"+plain, "127.0.0.1:"+secure
	if err := os.WriteFile(filepath.Join(r.dir, "rsyslog.conf"), fmt.Appendf(nil, rsyslogConf, r.dir, plain, secure), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(func() { _ = r.proc.Crash() })
	return r
}

func (r *rsyslog) start() {
	r.t.Helper()
	var err error
	cmd := exec.Command(r.binary, "-n", "-C", "-f", filepath.Join(r.dir, "rsyslog.conf"), "-i", filepath.Join(r.dir, "pid"))
	if r.proc, err = stage.Launch(cmd, filepath.Join(r.dir, "rsyslog.log")); err != nil {
		r.t.Fatal(err)
	}
	for _, address := range []string{r.plain, r.tls} {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				r.t.Fatalf("rsyslog does not listen: %v\n%s", err, strings.Join(r.proc.Lines(), "\n"))
			}
		}
	}
}

// await returns what rsyslog has understood once there are n messages.
func (r *rsyslog) await(n int) (list []understood) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(r.out)
		list = nil
		for line := range strings.Lines(string(text)) {
			var u understood
			if json.Unmarshal([]byte(line), &u) == nil {
				list = append(list, u)
			}
		}
		if len(list) >= n {
			return list
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("rsyslog has %d messages of %d: %s\n%s", len(list), n, text, strings.Join(r.proc.Lines(), "\n"))
		}
	}
}

// certificates puts an authority and a pair that it vouches for into dir.
func certificates(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: cert}, "cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// numbered is a batch whose events tell their place; the last is as large as an
// event gets, the others have what a framing could stumble over.
func numbered(first, last uint64) audit.Batch {
	b := audit.Batch{Node: `gw "1\]`}
	for n := first; n <= last; n++ {
		text := fmt.Sprintf(`{"seq":"%d","text":"12 <13>1 é\n%s"}`, n, strings.Repeat("x", int(n)))
		if n == last {
			text = fmt.Sprintf(`{"seq":"%d","text":%q}`, n, strings.Repeat("ä", 16000))
		}
		b.Events = append(b.Events, audit.Event{Mark: spool.Mark{Epoch: 7, Seq: n}, Time: time.Unix(1767225600, 123456000), Type: "sallyport.auth.refused", JSON: []byte(text)})
	}
	return b
}

// TestRsyslog delivers to a real rsyslog, over TCP with octet counting (RFC
// 6587) and over TLS with certificates on both sides (RFC 5425), and through a
// restart of the server.
func TestRsyslog(t *testing.T) {
	r := startRsyslog(t)
	mutual := audit.TLS{CA: filepath.Join(r.dir, "ca.pem"), Cert: filepath.Join(r.dir, "cert.pem"), Key: filepath.Join(r.dir, "key.pem")}
	have := 0
	deliver := func(s *Sink, b audit.Batch) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := s.Deliver(ctx, b); err != nil {
			t.Fatalf("%s: %v", s.Address, err)
		}
		list := r.await(have + len(b.Events))
		for i, e := range b.Events {
			verify(t, list[have+i], e)
		}
		have += len(b.Events)
	}
	known := &Sink{Address: r.tls, TLS: mutual}
	for _, s := range []*Sink{
		{Address: r.plain, Insecure: true},
		known,
	} {
		if err := s.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		deliver(s, numbered(1, 50))
		if _, err := r.proc.Halt(); err != nil {
			t.Fatal(err)
		}
		r.start()
		deliver(s, numbered(51, 60))
	}

	// Who shows no certificate gets nothing in.
	s := &Sink{Address: r.tls, TLS: audit.TLS{CA: mutual.CA}}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	// TLS 1.3 tells a client only after its first message that it is not let in.
	_ = s.Deliver(ctx, numbered(61, 61))
	_ = s.Deliver(ctx, numbered(62, 62))
	deliver(known, numbered(63, 63)) // what comes next is this
}

func verify(t *testing.T, got understood, e audit.Event) {
	t.Helper()
	want := understood{
		Pri: "109", Time: "2026-01-01T00:00:00.123456Z", App: "sallyport", MsgID: "sallyport.auth.refused", Version: "1",
		SD:  `[sallyport@32473 node="gw \"1\\\]" epoch="7" seq="` + strconv.FormatUint(e.Mark.Seq, 10) + `"]`,
		Msg: "\ufeff" + string(e.JSON),
	}
	if got != want {
		t.Errorf("rsyslog understood %.300q, want %.300q", got, want)
	}
}
