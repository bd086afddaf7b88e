package demo

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

const folder = "../../../caddyfiles/"

// TestCaddyfilesAreFormatted holds every shipped Caddyfile to the form that
// starts without a warning, and to what each must say about its end.
func TestCaddyfilesAreFormatted(t *testing.T) {
	files, err := filepath.Glob(folder + "*.Caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Caddyfiles in %s: %v", folder, err)
	}
	for _, name := range []string{"UPSTREAMS", "PREVIEW_HOST"} {
		t.Setenv(name, "127.0.0.1:1")
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(source, map[string]any{"filename": file})
		if err != nil {
			t.Errorf("adapt: %v", err)
		}
		for _, w := range warnings {
			t.Errorf("%s: %s", file, w)
		}
		for _, option := range []string{"shutdown_delay", "grace_period"} {
			if !bytes.Contains(source, []byte("\t"+option+" ")) {
				t.Errorf("%s does not set %s", file, option)
			}
		}
		for _, secret := range []string{"{$AUDIT_EVENT_SINK_TOKEN", "{$REDIS_PASSWORD", "{$REDIS_URL"} {
			if bytes.Contains(source, []byte(secret)) {
				t.Errorf("%s puts the value of %s} into the configuration, where GET /config/ shows it", file, secret)
			}
		}
	}
}

// The first configuration that anybody reads must adapt as it stands there.
func TestReadmeCaddyfileAdapts(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```caddyfile\n")
	source, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("README.md shows no Caddyfile")
	}
	_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source), map[string]any{"filename": "README.md"})
	if err != nil || len(warnings) > 0 {
		t.Errorf("README.md's Caddyfile: %v, warnings %v", err, warnings)
	}
}

// TestCaddyfilesRun runs each environment's Caddyfile on ports and folders of
// its own beside a real Redis and the demo's stubs. The demo runs the quickstart.
func TestCaddyfilesRun(t *testing.T) {
	files, err := filepath.Glob(folder + "*.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "quickstart.Caddyfile" {
			t.Run(name, func(t *testing.T) { runCaddyfile(t, file) })
		}
	}
}

// launched is a shipped Caddyfile that serves, with all it needs around it.
type launched struct {
	*process
	issuer, orders, probes string
	sink                   *Sink
	events                 bytes.Buffer
}

func launch(t *testing.T, file string, more ...string) *launched {
	t.Helper()
	l := new(launched)
	home := t.TempDir()
	certificate(t, home)
	redisURL := startRedis(t, home).url
	if name := filepath.Base(file); name == "local.Caddyfile" || name == "dev.Caddyfile" {
		redisURL = "redis://:" + password + "@" + redistest.Start(t, "--requirepass", password).Addr
	}
	l.sink = NewSink("secret", io.Discard, &l.events)
	issuer, err := NewIssuer("http://issuer.test")
	if err != nil {
		t.Fatal(err)
	}
	l.issuer = start(t, issuer)
	moved, orders, probes := relocate(t, file, home)
	l.orders, l.probes = orders, probes
	redisFile := filepath.Join(home, "redis-password")
	if err := os.WriteFile(redisFile, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"REDIS_URL=" + redisURL, "REDIS_PASSWORD_FILE=" + redisFile, "PREVIEW_HOST=127.0.0.1",
		"JWT_ISSUER=http://issuer.test", "JWKS_URL=" + l.issuer + "/jwks.json", "JWT_AUDIENCE=" + audience,
		"UPSTREAMS=" + strings.TrimPrefix(start(t, &Upstream{Name: "orders-1"}), "http://"),
		"AUDIT_EVENT_SINK_URL=" + start(t, l.sink), "AUDIT_EVENT_SINK_TOKEN=secret",
		"CADDY_ADMIN=unix/" + filepath.Join(home, "admin.sock") + "|0600",
	}
	l.process = sallyportWith(t, home, append(env, more...), "run", "--config", moved)
	l.until("serving initial configuration")
	return l
}

func runCaddyfile(t *testing.T, file string) {
	l := launch(t, file)
	_, token := ask(t, l.issuer+"/token?sub=alice", "")
	if status, body := ask(t, l.orders, strings.TrimSpace(token)); status != 200 || !strings.Contains(body, `"X-User-Id":"alice"`) {
		t.Errorf("with a token: %d %s, want 200 from an upstream that knows alice", status, body)
	}
	if status, body := ask(t, l.orders, ""); status != 401 {
		t.Errorf("without a token: %d %s, want 401", status, body)
	}
	if status, body := ask(t, l.probes+"/health/ready", ""); status != 200 || strings.Contains(body, "degraded") {
		t.Errorf("readiness: %d %s", status, body)
	}
	if status, body := ask(t, l.probes+"/metrics", ""); status != 200 || !strings.Contains(body, "sallyport_refusals_total") {
		t.Errorf("metrics: %d without sallyport_refusals_total", status)
	}
	if code, printed := l.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d; printed:\n%s", code, printed)
	}
	l.sink.mu.Lock()
	heard := l.events.String()
	l.sink.mu.Unlock()
	for _, want := range []string{"http.request", "auth.refused"} {
		if !strings.Contains(heard, want) {
			t.Errorf("the sink has not heard of %s when the gateway has ended:\n%s", want, heard)
		}
	}
}

// relocate copies file, and the snippets beside it, to home with the addresses and paths that one machine
// has only once replaced, and returns where its site and its probes are.
func relocate(t *testing.T, file, home string) (moved, orders, probes string) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	site, internal := redistest.FreePort(t), redistest.FreePort(t)
	scheme := "http"
	if bytes.Contains(source, []byte("https://:8443")) {
		scheme = "https"
	}
	snippets, err := os.ReadFile(folder + "snippets.caddy")
	if err != nil {
		t.Fatal(err)
	}
	moves := strings.NewReplacer(
		"http://:8080", fmt.Sprintf("http://127.0.0.1:%d", site),
		"}:8080", fmt.Sprintf("}:%d", site),
		// Any name: the balancer reaches the pod by its address.
		"https://:8443", fmt.Sprintf("https://:%d", site),
		"http://:9180", fmt.Sprintf("http://127.0.0.1:%d", internal),
		"/run/secrets/tls", home, "/run/secrets/sallyport/redis-ca", filepath.Join(home, "ca.crt"),
		"/run/sallyport/admin.sock", filepath.Join(home, "admin.sock"),
		"/data/audit", filepath.Join(home, "spool"),
		"shutdown_delay 10s", "shutdown_delay 1s",
	)
	moved = filepath.Join(home, "Caddyfile")
	for path, text := range map[string][]byte{moved: source, filepath.Join(home, "snippets.caddy"): snippets} {
		if err := os.WriteFile(path, []byte(moves.Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return moved, fmt.Sprintf("%s://127.0.0.1:%d/orders", scheme, site), fmt.Sprintf("http://127.0.0.1:%d", internal)
}

// ask asks once. The gateway's certificate is of this test and nobody vouches for it.
func ask(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	c := client(t, false)
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// certificate writes tls.crt and tls.key for 127.0.0.1 to folder, as a Secret
// mounts them, and ca.crt, which vouches for them: the same once more.
func certificate(t *testing.T, folder string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"gateway"},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: keyDER},
		"ca.crt": {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
