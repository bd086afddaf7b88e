package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

const password = "redis-secret"

// securedRedis is a Redis that speaks TLS with the certificate in a folder and
// wants the password.
type securedRedis struct{ url, addr string }

// startRedis starts one, with further arguments.
func startRedis(t *testing.T, home string, args ...string) securedRedis {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	_, port, _ := net.SplitHostPort(addr)
	redistest.Start(t, append([]string{
		"--requirepass", password, "--masterauth", password, "--tls-port", port, "--tls-auth-clients", "no",
		"--tls-cert-file", home + "/tls.crt", "--tls-key-file", home + "/tls.key", "--tls-ca-cert-file", home + "/ca.crt",
	}, args...)...)
	return securedRedis{url: "rediss://" + addr, addr: addr}
}

// startSentinel starts a sentinel that lives until the test ends.
func startSentinel(t *testing.T, conf string) {
	t.Helper()
	cmd := exec.Command("redis-server", conf, "--sentinel", "--port", "0", "--bind", "127.0.0.1", "--dir", filepath.Dir(conf))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
}

// reachable waits until somebody listens on addr.
func reachable(t *testing.T, addr string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (s securedRedis) client(t *testing.T, home string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.addr, Password: password, TLSConfig: trusting(t, home)})
	t.Cleanup(func() { c.Close() })
	return c
}

// trusting is the TLS of a client that believes ca.crt.
func trusting(t *testing.T, home string) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(home + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// TestProductionForms runs production.Caddyfile with each form of Redis, over
// TLS with a password and an authority of its own, and each way in.
func TestProductionForms(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		home := t.TempDir()
		certificate(t, home)
		node := startRedis(t, home, "--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-announce-ip", "127.0.0.1")
		if err := node.client(t, home).Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
			t.Fatal(err)
		}
		g := runProduction(t, home, "REDIS_FORM=cluster", "REDIS_URL="+node.url)
		defer g.end(t)
		g.answers(t, g.client(t, nil))
	})
	t.Run("sentinel", func(t *testing.T) {
		home := t.TempDir()
		certificate(t, home)
		primary := startRedis(t, home, "--tls-replication", "yes")
		port := fmt.Sprint(redistest.FreePort(t))
		conf := filepath.Join(home, "sentinel.conf")
		lines := []string{
			"tls-port " + port, "tls-auth-clients no", "tls-replication yes", "requirepass " + password,
			"tls-cert-file " + home + "/tls.crt", "tls-key-file " + home + "/tls.key", "tls-ca-cert-file " + home + "/ca.crt",
			"sentinel monitor orders " + strings.Replace(primary.addr, ":", " ", 1) + " 1", "sentinel auth-pass orders " + password,
		}
		if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		startSentinel(t, conf)
		reachable(t, "127.0.0.1:"+port)
		g := runProduction(t, home, "REDIS_FORM=sentinel", "REDIS_PRIMARY=orders", "REDIS_URL=rediss://127.0.0.1:"+port)
		defer g.end(t)
		g.answers(t, g.client(t, nil))
	})
	t.Run("mtls", func(t *testing.T) {
		home := t.TempDir()
		certificate(t, home)
		g := runProduction(t, home, "ENTRY=mtls", "REDIS_URL="+startRedis(t, home).url)
		defer g.end(t)
		if _, err := g.client(t, nil).Get(g.site); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("a balancer without a certificate: %v, want a refused handshake", err)
		}
		pair, err := tls.LoadX509KeyPair(home+"/tls.crt", home+"/tls.key")
		if err != nil {
			t.Fatal(err)
		}
		g.answers(t, g.client(t, func(tr *http.Transport) { tr.TLSClientConfig.Certificates = []tls.Certificate{pair} }))
	})
	t.Run("proxy", func(t *testing.T) {
		home := t.TempDir()
		certificate(t, home)
		g := runProduction(t, home, "ENTRY=proxy", "TRUSTED_PROXIES=127.0.0.0/8", "REDIS_URL="+startRedis(t, home).url)
		defer g.end(t)
		body := g.answers(t, g.client(t, func(tr *http.Transport) {
			tr.DialContext = proxied
		}))
		if !strings.Contains(body, `"X-Forwarded-For":"203.0.113.9"`) {
			t.Errorf("the upstream hears of another client than the PROXY header names: %s", body)
		}
	})
}

// production is a running production.Caddyfile.
type production struct {
	*process
	home, site, probes, token string
}

// end stops the gateway, and shows what it printed where the test has failed.
func (g production) end(t *testing.T) {
	t.Helper()
	if code, printed := g.stop(syscall.SIGTERM); code != 0 || t.Failed() {
		t.Errorf("SIGTERM: exit code %d; printed:\n%s", code, printed)
	}
}

func runProduction(t *testing.T, home string, env ...string) production {
	t.Helper()
	issuer, err := NewIssuer("http://issuer.test")
	if err != nil {
		t.Fatal(err)
	}
	issuerURL := start(t, issuer)
	moved, site, probes := relocate(t, folder+"production.Caddyfile", home)
	p := sallyportWith(t, home, append([]string{
		"REDIS_PASSWORD=" + password, "JWT_ISSUER=http://issuer.test", "JWKS_URL=" + issuerURL + "/jwks.json", "JWT_AUDIENCE=" + audience,
		"UPSTREAMS=" + strings.TrimPrefix(start(t, &Upstream{Name: "orders-1"}), "http://"),
		"AUDIT_EVENT_SINK_URL=" + start(t, NewSink("secret", io.Discard, io.Discard)), "AUDIT_EVENT_SINK_TOKEN=secret",
	}, env...), "run", "--config", moved)
	p.until("serving initial configuration")
	_, token := ask(t, issuerURL+"/token?sub=alice", "")
	return production{p, home, site, probes, strings.TrimSpace(token)}
}

func (g production) client(t *testing.T, change func(*http.Transport)) *http.Client {
	t.Helper()
	c := client(t, false)
	tr := c.Transport.(*http.Transport)
	tr.TLSClientConfig = trusting(t, g.home)
	if change != nil {
		change(tr)
	}
	return c
}

// answers expects that a caller with a token reaches the upstream and that
// Redis is well, and returns what the upstream said.
func (g production) answers(t *testing.T, c *http.Client) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, g.site, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("with a token: %d %s, %v", res.StatusCode, body, err)
	}
	if status, said := ask(t, g.probes+"/health/ready", ""); status != 200 || !strings.Contains(said, `"redis":{"status":"ready"}`) {
		t.Errorf("readiness: %d %s, want a Redis that is ready", status, said)
	}
	return string(body)
}

// TestStagingIsProduction compares the two: only what is said above the first
// line of configuration may differ.
func TestStagingIsProduction(t *testing.T) {
	var bodies [2]string
	for i, name := range []string{"staging", "production"} {
		text, err := os.ReadFile(folder + name + ".Caddyfile")
		if err != nil {
			t.Fatal(err)
		}
		_, bodies[i], _ = strings.Cut(string(text), "\nimport snippets.caddy\n")
	}
	if bodies[0] != bodies[1] || bodies[0] == "" {
		t.Error("staging.Caddyfile and production.Caddyfile differ: what is rehearsed is not what will run")
	}
}

// TestWrongValuesAreNamed validates production.Caddyfile with one variable
// wrong at a time: the message names it, or the file, and what is accepted.
func TestWrongValuesAreNamed(t *testing.T) {
	home := t.TempDir()
	certificate(t, home)
	moved, _, _ := relocate(t, folder+"production.Caddyfile", home)
	right := map[string]string{
		"REDIS_URL": "rediss://127.0.0.1:1", "REDIS_PASSWORD": password, "JWT_ISSUER": "https://issuer.test/",
		"JWKS_URL": "https://issuer.test/jwks.json", "JWT_AUDIENCE": audience, "UPSTREAMS": "127.0.0.1:1",
		"AUDIT_EVENT_SINK_URL": "https://sink.test/", "AUDIT_EVENT_SINK_TOKEN": "secret",
	}
	tests := []struct{ name, value, want string }{
		{"", "", "Valid configuration"},
		{"REDIS_URL", "", "environment variable REDIS_URL is empty"},
		{"REDIS_URL", "http://redis", "url {env.REDIS_URL}: url has the scheme 'http'; the schemes are redis, rediss and unix"},
		{"REDIS_PASSWORD", "", "environment variable REDIS_PASSWORD is empty, and so is REDIS_PASSWORD_FILE"},
		{"REDIS_PASSWORD_FILE", home + "/gone", home + "/gone: no such file or directory"},
		{"REDIS_FORM", "ring", "REDIS_FORM=single|sentinel|cluster:ring"},
		{"REDIS_CA", home + "/gone", home + "/gone: no such file or directory"},
		{"ENTRY", "open", "ENTRY=tls|mtls|proxy|proxy-mtls:open"},
		{"TRUSTED_PROXIES", "everybody", "invalid IP address: 'everybody'"},
		{"JWT_ISSUER", "", "environment variable JWT_ISSUER is empty"},
		{"JWT_AUDIENCE", "", "environment variable JWT_AUDIENCE is empty"},
		{"JWKS_URL", "", "environment variable JWKS_URL is empty"},
		{"JWKS_URL", "ftp://issuer.test", "option 'jwks': 'ftp://issuer.test' is neither https nor http"},
		{"UPSTREAMS", "unset", "parsing upstream 'UPSTREAMS=host:port'"},
		{"AUDIT_EVENT_SINK_URL", "sink.test", "{env.AUDIT_EVENT_SINK_URL}: url 'sink.test' is no http or https address"},
		{"AUDIT_EVENT_SINK_TOKEN_FILE", home + "/gone", home + "/gone: no such file or directory"},
		{"ENABLE_AUDIT_EVENTS", "yes", "ENABLE_AUDIT_EVENTS is true or false, got 'yes'"},
		{"ENABLE_TELEMETRY", "yes", "ENABLE_TELEMETRY is true or false, not 'yes'"},
	}
	for _, tt := range tests {
		t.Run(tt.name+"="+filepath.Base(tt.value), func(t *testing.T) {
			var env []string
			for name, value := range right {
				wrong := name == tt.name || name+"_FILE" == tt.name
				if !wrong {
					env = append(env, name+"="+value)
				}
			}
			if tt.name != "" && tt.value != "unset" {
				env = append(env, tt.name+"="+tt.value)
			}
			p := sallyportWith(t, home, env, "validate", "--config", moved, "--adapter", "caddyfile")
			if code, printed := p.wait(); !strings.Contains(printed, tt.want) || (code == 0) != (tt.name == "") {
				t.Errorf("exit code %d, want a message with %q; printed:\n%s", code, tt.want, printed)
			}
		})
	}
}

// proxied dials as a balancer does that tells the client's address in front of TLS.
func proxied(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		_, err = io.WriteString(conn, "PROXY TCP4 203.0.113.9 127.0.0.1 40000 8443\r\n")
	}
	return conn, err
}
