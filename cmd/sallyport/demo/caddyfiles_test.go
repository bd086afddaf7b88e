package demo

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
	for _, name := range []string{"JWT_ISSUER", "JWKS_URL", "JWT_AUDIENCE", "UPSTREAMS"} {
		t.Setenv(name, "http://127.0.0.1:1")
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

// TestLocalCaddyfile runs caddyfiles/local.Caddyfile on ports of its own beside
// a real Redis and the demo's stubs. The demo runs the quickstart.
func TestLocalCaddyfile(t *testing.T) {
	redis := redistest.Start(t)
	var events bytes.Buffer
	sink := NewSink("secret", io.Discard, &events)
	issuer, err := NewIssuer("http://issuer.test")
	if err != nil {
		t.Fatal(err)
	}
	issuerURL := start(t, issuer)
	site, probes := redistest.FreePort(t), redistest.FreePort(t)

	source, err := os.ReadFile(folder + "local.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer(
		fmt.Sprintf("http://:%d", quickstartSite), fmt.Sprintf("http://:%d", site),
		fmt.Sprintf("http://:%d", quickstartProbes), fmt.Sprintf("http://:%d", probes),
	).Replace(string(source))
	home := t.TempDir()
	file := filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"REDIS_URL=redis://" + redis.Addr, "JWT_ISSUER=http://issuer.test", "JWKS_URL=" + issuerURL + "/jwks.json",
		"JWT_AUDIENCE=" + audience, "UPSTREAMS=" + strings.TrimPrefix(start(t, &Upstream{Name: "orders-1"}), "http://"),
		"AUDIT_EVENT_SINK_URL=" + start(t, sink), "AUDIT_EVENT_SINK_TOKEN=secret",
		"CADDY_ADMIN=unix/" + filepath.Join(home, "admin.sock") + "|0600",
	}
	p := sallyportWith(t, home, env, "run", "--config", file)
	p.until("serving initial configuration")

	c := client(t, false)
	answer := func(url, token string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
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
	_, token := answer(issuerURL+"/token?sub=alice", "")
	orders := "http://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(site)) + "/orders"
	if status, body := answer(orders, strings.TrimSpace(token)); status != 200 || !strings.Contains(body, `"X-User-Id":"alice"`) {
		t.Errorf("with a token: %d %s, want 200 from an upstream that knows alice", status, body)
	}
	if status, body := answer(orders, ""); status != 401 {
		t.Errorf("without a token: %d %s, want 401", status, body)
	}
	if status, body := answer(fmt.Sprintf("http://127.0.0.1:%d/health/ready", probes), ""); status != 200 {
		t.Errorf("readiness: %d %s", status, body)
	}
	if code, printed := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d; printed:\n%s", code, printed)
	}
	sink.mu.Lock()
	heard := events.String()
	sink.mu.Unlock()
	for _, want := range []string{"http.request", "auth.refused"} {
		if !strings.Contains(heard, want) {
			t.Errorf("the sink has not heard of %s when the gateway has ended:\n%s", want, heard)
		}
	}
}
