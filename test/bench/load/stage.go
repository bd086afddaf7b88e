package main

import (
	"cmp"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"crypto/x509"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/sallyport-gateway/sallyport/test/port"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

// set is what stands around the contestants: nginx as upstream, sink and
// collector, an issuer and its tokens, and Redis.
type set struct {
	dir, binary string
	caddy       string // stock Caddy, from the same go.mod
	back        string // host:port of the nginx behind the contestants
	issuer      *stage.Issuer
	redis       *stage.Process
	redisPort   string
	upstream    *actor
	returning   map[string]string // files of tokens by algorithm
	expired     string
	pem         map[string]string // files of public keys by algorithm
	talker      *talker
	backTLS     string // host:port of the same nginx over TLS
	certificate string // the files of the certificate of all who have one
	key         string
	client      *http.Client
}

func newStage(dir, binary string) (s *set, err error) {
	s = &set{dir: dir, binary: binary, client: insecure(), caddy: filepath.Join(dir, "caddy"), returning: map[string]string{}, pem: map[string]string{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	build := exec.Command("go", "build", "-trimpath", "-o", s.caddy, "github.com/caddyserver/caddy/v2/cmd/caddy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return s, fmt.Errorf("build stock Caddy: %w\n%s", err, out)
	}
	if s.issuer, err = stage.NewIssuer("issuer"); err != nil {
		return s, err
	}
	if err := s.sign(); err != nil {
		return s, err
	}
	if s.redisPort, err = stage.FreePort(); err != nil {
		return s, err
	}
	if s.redis, err = stage.Redis(s.redisPort, dir, ""); err != nil {
		return s, err
	}
	n, err := port.Free()
	if err != nil {
		return s, err
	}
	secure, err := port.Free()
	if err != nil {
		return s, err
	}
	if err := s.certify(); err != nil {
		return s, err
	}
	if s.talker, err = newTalker(); err != nil {
		return s, err
	}
	s.back, s.backTLS = fmt.Sprintf("127.0.0.1:%d", n), fmt.Sprintf("127.0.0.1:%d", secure)
	s.upstream, err = s.launch("upstream", 1, n, nginx(n, "", "", fmt.Sprintf("listen 127.0.0.1:%d ssl; ", secure)+s.nginxTLS()+
		"location /v1/ { return 200; } location / { default_type application/json; return 200 '"+strings.Repeat("x", answer)+"'; }"), nil)
	return s, err
}

func (s *set) close() {
	if s.upstream != nil {
		s.upstream.halt()
	}
	if s.redis != nil {
		_, _ = s.redis.Halt()
	}
	if s.issuer != nil {
		_ = s.issuer.Halt()
	}
	if s.talker != nil {
		_ = s.talker.server.Close()
	}
}

// sign writes the tokens and the keys to verify them with.
func (s *set) sign() error {
	for _, alg := range []string{"RS256", "ES256"} {
		file, err := s.mint(alg, 1000, time.Hour)
		if err != nil {
			return err
		}
		s.returning[alg] = file
	}
	var err error
	if s.expired, err = s.mint("RS256", 100, -time.Hour); err != nil {
		return err
	}
	keys, err := jwk.Fetch(context.Background(), s.issuer.URL()+"jwks.json")
	if err != nil {
		return err
	}
	for i := range keys.Len() {
		key, _ := keys.Key(i)
		var public any
		if err := key.Raw(&public); err != nil {
			return err
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return err
		}
		alg := key.Algorithm().String()
		s.pem[alg] = filepath.Join(s.dir, alg+".pem")
		if err := os.WriteFile(s.pem[alg], pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *set) mint(alg string, n int, ttl time.Duration) (file string, err error) {
	var b strings.Builder
	for i := range n {
		token, err := s.issuer.Mint(stage.Token{Alg: alg, Claims: s.issuer.Claims(fmt.Sprintf("user-%d", i), "orders-api", ttl)})
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, token)
	}
	file = filepath.Join(s.dir, fmt.Sprintf("tokens-%s-%s", alg, ttl))
	return file, os.WriteFile(file, []byte(b.String()), 0o600)
}

// enter starts a contestant on the first core.
func (s *set) enter(c contestant, sc scenario) (*actor, error) {
	n, err := port.Free()
	if err != nil {
		return nil, err
	}
	metrics, err := port.Free()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.dir, "run-")
	if err != nil {
		return nil, err
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if werr := os.WriteFile(path, []byte(text), 0o600); werr != nil {
			err = werr
		}
		return path
	}
	var argv, env []string
	switch c.kind {
	case "nginx":
		ssl, tls := "", ""
		if sc.tls {
			ssl, tls = " ssl", s.nginxTLS()
		}
		return s.launch("nginx", 0, n, nginx(n, s.back, ssl, tls+"location / { "+c.config+"proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ''; }"), nil)
	case "haproxy":
		argv = []string{"haproxy", "-db", "-f", write("haproxy.cfg", haproxy(n, s.back, s.haproxyTLS(sc), c.config))}
	case "peer":
		argv = []string{"sh", "-c", "exec " + c.config}
		env = append(os.Environ(), fmt.Sprintf("PORT=%d", n), "UPSTREAM="+s.back)
	default:
		admin := filepath.Join(dir, "admin")
		global, binary := "admin unix/"+admin+"\npersist_config off\nauto_https disable_redirects\n"+c.global, s.caddy
		servers := "\tprotocols h1 h2 h2c\n"
		if c.kind == "sallyport" { // as the shipped configurations have it
			binary = cmp.Or(c.binary, s.binary)
			servers += "\tlistener_wrappers {\n\t\thandover\n" + lookUp(binary) + "\t}\n"
		}
		global += fmt.Sprintf("servers :%d {\n%s}\n", n, servers)
		scheme, site := "http", c.config
		if sc.tls {
			scheme, site = "https", "tls "+s.certificate+" "+s.key+"\n"+site
		}
		argv = []string{binary, "run", "--adapter", "caddyfile", "--config", write("Caddyfile", fmt.Sprintf("{\n%s}\n%s://127.0.0.1:%d {\n%s}\nhttp://127.0.0.1:%d {\nmetrics /metrics\n}\n", global, scheme, n, site, metrics))}
		env = append(s.environment(), "HOME="+dir, "PATH="+os.Getenv("PATH"))
		if c.gogc != "" {
			env = append(env, "GOGC="+c.gogc)
		}
	}
	if err != nil {
		return nil, err
	}
	a, err := s.start(c.name, 0, n, argv, env)
	if err == nil && (c.kind == "caddy" || c.kind == "sallyport") {
		a.metrics, a.admin = metrics, filepath.Join(dir, "admin")
		if err = awaitPort(a.Process, metrics); err != nil {
			a.halt()
		}
	}
	return a, err
}

// lookUp is the line that has routes looked up, for builds that can; an older
// one may stand beside the one that is measured.
func lookUp(binary string) string {
	modules, err := exec.Command(binary, "list-modules").Output()
	if err != nil || !strings.Contains(string(modules), "caddy.listeners.route_index\n") {
		return ""
	}
	return "\t\troute_index\n"
}

// environment is what configurations name.
func (s *set) environment() []string {
	return []string{"UPSTREAM=" + s.back, "ISSUER=" + s.issuer.URL(), "REDIS=redis://127.0.0.1:" + s.redisPort, "SINK=http://" + s.back + "/sink",
		"COLLECTOR=http://" + s.back, "UPSTREAM_TLS=" + s.backTLS, "CERTIFICATE=" + s.certificate, "TALKER=" + s.talker.addr, "KEY=" + s.pem["RS256"]}
}

func nginx(port int, back, ssl, location string) string {
	proxy := ""
	if back != "" {
		proxy = "upstream back { server " + back + "; keepalive 256; }\n"
	}
	return fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 16384; }
http {
access_log off; keepalive_requests 1000000000; client_body_temp_path body; proxy_temp_path proxy;
fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
limit_req_zone $http_x_user zone=callers:10m rate=1000000r/s;
%sserver { listen 127.0.0.1:%d%s; %s }
}
`, proxy, port, ssl, location)
}

func haproxy(port int, back, tls, rules string) string {
	return fmt.Sprintf(`global
nbthread 1
maxconn 4096
defaults
mode http
timeout connect 5s
timeout client 60s
timeout server 60s
frontend front
bind 127.0.0.1:%d%s
%sdefault_backend back
backend back
http-reuse always
server one %s
`, port, tls, rules, back)
}

// launch starts an nginx with the given configuration.
func (s *set) launch(name string, core, n int, config string, env []string) (*actor, error) {
	dir, err := os.MkdirTemp(s.dir, name+"-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return s.start(name, core, n, []string{"nginx", "-p", dir, "-c", file}, env)
}

// awaitPort waits long: ten thousand routes take their time to be read.
func awaitPort(p *stage.Process, n int) error {
	err := errors.New("it has ended")
	for deadline := time.Now().Add(6 * stage.Patience); !p.Over() && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n)); err == nil {
			return c.Close()
		}
	}
	return err
}

func writeJSON(file string, all report) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
