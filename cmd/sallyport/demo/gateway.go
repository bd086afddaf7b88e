package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // the adapter

	"github.com/sallyport-gateway/sallyport/caddyfiles"
)

// The ports that the quickstart Caddyfile names.
const (
	quickstartSite   = 8080
	quickstartProbes = 9180
)

// redisLine is the line of the quickstart Caddyfile that --redis switches on.
const redisLine = "redis {env.REDIS_URL}"

// gateway is where the gateway of the demo listens and writes.
type gateway struct {
	site, probes int
	// dir is the only folder it writes to.
	dir   string
	redis bool
}

func (g gateway) log() string    { return filepath.Join(g.dir, "gateway.log") }
func (g gateway) events() string { return filepath.Join(g.dir, "audit.ndjson") }
func (g gateway) admin() string  { return "unix/" + filepath.Join(g.dir, "admin.sock") }

// start loads the quickstart Caddyfile, waits until the gateway is ready, and
// returns what it says of its readiness.
func (g gateway) start(ctx context.Context) (readiness string, err error) {
	config, err := g.config()
	if err != nil {
		return "", err
	}
	if err := caddy.Load(config, true); err != nil {
		return "", fmt.Errorf("start gateway: %w", err)
	}
	if readiness, err = g.ready(ctx); err != nil {
		return "", errors.Join(err, caddy.Stop())
	}
	return readiness, nil
}

// config adapts the quickstart Caddyfile and moves what would touch the
// machine beyond the demo: ports, admin endpoint, storage and log.
func (g gateway) config() ([]byte, error) {
	source := caddyfiles.Quickstart
	if g.redis {
		source = strings.Replace(source, "# "+redisLine, redisLine, 1)
	}
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source), map[string]any{"filename": "quickstart.Caddyfile"})
	if err != nil {
		return nil, fmt.Errorf("adapt quickstart.Caddyfile: %w", err)
	}
	var config caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		return nil, fmt.Errorf("read adapted configuration: %w", err)
	}
	config.Admin = &caddy.AdminConfig{
		Listen: g.admin() + "|0600",
		Config: &caddy.ConfigSettings{Persist: new(bool)},
	}
	config.StorageRaw = object("module", "file_system", "root", g.dir)
	// The terminal belongs to the audit events; it hears of errors only.
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}},
		"gateway": {BaseLog: caddy.BaseLog{WriterRaw: object("output", "file", "filename", g.log())}},
	}}
	if config.AppsRaw["http"], err = g.listen(config.AppsRaw["http"]); err != nil {
		return nil, err
	}
	return json.Marshal(config)
}

// listen moves the servers of the http app to the demo's ports.
func (g gateway) listen(app json.RawMessage) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(app, &members); err != nil {
		return nil, fmt.Errorf("read http app: %w", err)
	}
	var servers map[string]map[string]json.RawMessage
	if err := json.Unmarshal(members["servers"], &servers); err != nil {
		return nil, fmt.Errorf("read http servers: %w", err)
	}
	moved := strings.NewReplacer(
		fmt.Sprintf(`:%d"`, quickstartSite), fmt.Sprintf(`:%d"`, g.site),
		fmt.Sprintf(`:%d"`, quickstartProbes), fmt.Sprintf(`:%d"`, g.probes),
	)
	for _, s := range servers {
		s["listen"] = json.RawMessage(moved.Replace(string(s["listen"])))
	}
	var err error
	if members["servers"], err = json.Marshal(servers); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// ready waits until the gateway calls itself ready, and returns its words.
func (g gateway) ready(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	url := fmt.Sprintf("http://127.0.0.1:%d/health/ready", g.probes)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	last := "no answer"
	for {
		status, body, err := get(ctx, url)
		if err == nil && status == http.StatusOK {
			return body, nil
		}
		if err == nil {
			last = body
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("gateway is not ready: GET %s: %s", url, last)
		case <-poll.C:
		}
	}
}

func get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, strings.TrimSpace(string(text)), err
}

// setenv sets the variables that the quickstart Caddyfile names.
func setenv(vars map[string]string) error {
	for name, value := range vars {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func object(pairs ...string) json.RawMessage {
	members := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		members[pairs[i]] = pairs[i+1]
	}
	text, err := json.Marshal(members)
	if err != nil {
		panic(err) // strings only
	}
	return text
}
