package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// gateway is one of the two.
type gateway struct {
	*stage.Process
	name, dir string
	// site and admin are addresses; probes and tls are ports.
	site, admin, probes, tls string
	// storage is where Caddy keeps what outlives the process, the key sets too.
	storage string
	start   func() (*stage.Process, error)
}

// configure adapts the Caddyfile once for all gateways of a place: they run one
// and the same configuration, and take their addresses from their environment.
func (s *stand) configure(ctx context.Context, binary, root, name string, env []string) error {
	for from, to := range map[string]string{
		filepath.Join(root, "test/chaos/Caddyfile"):      "Caddyfile",
		filepath.Join(root, "caddyfiles/snippets.caddy"): "snippets.caddy",
	} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(s.dir, to), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	const flags = "flags:\n  release:\n    variants: [new, old]\n    split: {new: 0%, old: 100%}\n"
	if err := os.WriteFile(filepath.Join(s.dir, "flags.yaml"), []byte(flags), 0o600); err != nil {
		return err
	}
	adapt := exec.CommandContext(ctx, binary, "adapt", "--adapter", "caddyfile", "--config", filepath.Join(s.dir, "Caddyfile"))
	adapt.Env = append(env[:len(env):len(env)], "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
	var complaint bytes.Buffer
	adapt.Stderr = &complaint
	text, err := adapt.Output()
	if err != nil {
		return fmt.Errorf("adapt the configuration: %w\n%s", err, complaint.String())
	}
	s.config = strings.NewReplacer(`":8080"`, `"{env.SITE}"`, `":9180"`, `"127.0.0.1:{env.PROBES}"`, `":8443"`, `"127.0.0.1:{env.TLS}"`).Replace(string(text))
	if strings.Count(s.config, "{env.SITE}") != 1 || strings.Count(s.config, "{env.PROBES}") != 1 || strings.Count(s.config, "{env.TLS}") != 1 {
		return errors.New("the adapted configuration does not listen where the Caddyfile says")
	}
	return os.WriteFile(filepath.Join(s.dir, name+".json"), []byte(s.config), 0o600)
}

func (s *stand) newGateway(name, binary, config string, env []string) (*gateway, error) {
	g := &gateway{name: name, dir: filepath.Join(s.dir, name)}
	var ports [4]string
	for i := range ports {
		var err error
		if ports[i], err = stage.FreePort(); err != nil {
			return nil, err
		}
	}
	g.site, g.admin = net.JoinHostPort("127.0.0.1", ports[0]), net.JoinHostPort("127.0.0.1", ports[3])
	g.probes, g.tls = ports[1], ports[2]
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		return nil, err
	}
	g.storage = filepath.Join(g.dir, "storage")
	env = append(env[:len(env):len(env)], "HOME="+g.dir, "XDG_DATA_HOME="+g.storage, "XDG_CONFIG_HOME="+g.dir, "NODE="+name,
		"SPOOL="+filepath.Join(g.dir, "spool"), "SITE="+g.site, "PROBES="+g.probes, "TLS="+g.tls, "CADDY_ADMIN="+g.admin)
	g.start = stage.Gateway{
		Binary: binary, Dir: g.dir, Env: env, Config: filepath.Join(s.dir, config+".json"), Log: filepath.Join(g.dir, "log"),
	}.Run
	return g, nil
}

func (g *gateway) up() (err error) {
	g.Process, err = g.start()
	return err
}

// down ends the gateway as a cluster does.
func (g *gateway) down() error {
	code, err := g.Halt()
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with code %d", g.name, code)
	}
	return err
}

// forget takes away what the gateway has stored, its keys.
func (g *gateway) forget() error { return os.RemoveAll(g.storage) }

// ready says why the gateway is not ready, or that it is degraded.
func (g *gateway) ready(ctx context.Context) error {
	status, body, err := fetch(ctx, http.MethodGet, "http://127.0.0.1:"+g.probes+"/health/ready", "", "")
	if err == nil && (status != http.StatusOK || !strings.Contains(body, `"status":"ready","checks"`)) {
		err = fmt.Errorf("%s: %d %s", g.name, status, body)
	}
	return err
}

// delivered says whether the sink has what the gateway wrote down.
func (g *gateway) delivered(ctx context.Context) error {
	_, body, err := fetch(ctx, http.MethodGet, "http://127.0.0.1:"+g.probes+"/metrics", "", "")
	if err != nil {
		return err
	}
	for line := range strings.Lines(body) {
		text, found := strings.CutPrefix(line, `sallyport_audit_sink_lag_seconds{sink="http"} `)
		if !found {
			continue
		}
		if lag, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil || lag > 3 {
			return fmt.Errorf("%s: an event waits for the sink for %s s", g.name, strings.TrimSpace(text))
		}
		return nil
	}
	return fmt.Errorf("%s does not say how far behind the sink is", g.name)
}

// load posts a configuration to the admin API, as `sallyport reload --force`
// does, and returns the answer's status. Without force a configuration that is
// the running one is not loaded, and a failure before it stays the last word.
func (g *gateway) load(ctx context.Context, config string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.admin+"/load", strings.NewReader(config))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cache-Control", "must-revalidate")
	status, _, err := do(req)
	return status, err
}

func fetch(ctx context.Context, method, url, kind, body string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	return do(req)
}

func do(req *http.Request) (int, string, error) {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}
