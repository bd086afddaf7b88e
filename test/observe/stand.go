package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/cmd/sallyport/demo"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

// Stand is a running gateway with everything around it.
type Stand struct {
	// Site, Probes and Prometheus are base URLs.
	Site, Probes, Prometheus string

	issuer, faults string
	grpc           *http.Client
	upstreams      []*demo.Upstream
	servers        []*http.Server
	processes      []*stage.Process // in the order they were started
	quit           context.CancelFunc
	ended          context.Context
}

const sinkToken = "observe"

// Start starts everything in dir; root is the checkout.
func Start(ctx context.Context, dir, binary, root string) (s *Stand, err error) {
	s = &Stand{}
	s.ended, s.quit = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	s.upstreams = []*demo.Upstream{{Name: "orders-1"}, {Name: "orders-2"}, {Name: "calls"}}
	addrs := make(map[string]string)
	var issuer *demo.Issuer
	for name, handler := range map[string]http.Handler{
		"orders-1": s.upstreams[0], "orders-2": s.upstreams[1], "calls": s.upstreams[2],
		"faults": demo.Control(s.upstreams[:2]...), "sink": demo.NewSink(sinkToken, io.Discard, io.Discard),
		"collector": http.HandlerFunc(collect),
		"issuer":    http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { issuer.ServeHTTP(w, r) }),
	} {
		if addrs[name], err = s.serve(handler); err != nil {
			return nil, err
		}
	}
	s.issuer, s.faults = "http://"+addrs["issuer"], "http://"+addrs["faults"]+"/fault"
	if issuer, err = demo.NewIssuer(s.issuer); err != nil {
		return nil, err
	}
	redis, err := stage.FreePort()
	if err != nil {
		return nil, err
	}
	if err := s.add(stage.Redis(redis, dir, "")); err != nil {
		return nil, err
	}
	env := []string{
		"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "REDIS_URL=redis://127.0.0.1:" + redis,
		"JWT_ISSUER=" + s.issuer, "JWKS_URL=" + s.issuer + "/jwks.json", "JWT_AUDIENCE=orders-api",
		"UPSTREAMS=" + addrs["orders-1"] + " " + addrs["orders-2"], "GRPC_UPSTREAM=" + addrs["calls"],
		"AUDIT_EVENT_SINK_URL=http://" + addrs["sink"], "AUDIT_EVENT_SINK_TOKEN=" + sinkToken,
		"ENABLE_TELEMETRY=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + addrs["collector"],
		"OTEL_METRIC_EXPORT_INTERVAL=2000", "OTEL_BSP_SCHEDULE_DELAY=500",
	}
	if err := s.gateway(dir, binary, root, env); err != nil {
		return nil, err
	}
	return s, s.prometheus(dir, root)
}

// collect takes whatever is exported.
func collect(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the exporter left
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (s *Stand) serve(h http.Handler) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	go server.Serve(l) //nolint:errcheck // Stop closes it
	return l.Addr().String(), nil
}

func (s *Stand) add(p *stage.Process, err error) error {
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return err
}

// gateway runs local.Caddyfile on ports that are free.
func (s *Stand) gateway(dir, binary, root string, env []string) error {
	var ports [3]string
	for i := range ports {
		var err error
		if ports[i], err = stage.FreePort(); err != nil {
			return err
		}
	}
	moves := strings.NewReplacer("http://:8080", "http://127.0.0.1:"+ports[0], "http://:9180", "http://127.0.0.1:"+ports[1])
	for _, name := range []string{"local.Caddyfile", "snippets.caddy"} {
		source, err := os.ReadFile(filepath.Join(root, "caddyfiles", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(moves.Replace(string(source))), 0o600); err != nil {
			return err
		}
	}
	s.Site, s.Probes = "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	return s.add(stage.Gateway{
		Binary: binary, Dir: dir, Config: filepath.Join(dir, "local.Caddyfile"), Log: filepath.Join(dir, "gateway.log"),
		Env: append(env, "CADDY_ADMIN=127.0.0.1:"+ports[2]),
	}.Run())
}

// prometheus runs Prometheus with the shipped rules, evaluated each second.
func (s *Stand) prometheus(dir, root string) error {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		return errors.New("prometheus is not installed; `make observe` installs it where apt-get is there")
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy/alerts/*.rules.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no rules in %s: %w", root, err)
	}
	for _, file := range files {
		rules, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fast := strings.ReplaceAll(string(rules), "interval: 30s", "interval: 1s")
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(fast), 0o600); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(`{"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["%s/*.rules.yaml"],
		"scrape_configs": [{"job_name": "sallyport", "static_configs": [{"targets": [%q], "labels": {"track": "stable"}}]}]}`,
		dir, strings.TrimPrefix(s.Probes, "http://"))
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	port, err := stage.FreePort()
	if err != nil {
		return err
	}
	s.Prometheus = "http://127.0.0.1:" + port
	cmd := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address=127.0.0.1:"+port)
	if err := s.add(stage.Launch(cmd, filepath.Join(dir, "prometheus.log"))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ended, time.Minute)
	defer cancel()
	return s.processes[len(s.processes)-1].AwaitLine(ctx, "'ready to receive web requests'", func(line string) bool {
		return strings.Contains(line, "ready to receive web requests")
	})
}

// Stop ends everything, the last started first.
func (s *Stand) Stop() {
	s.quit()
	for i := len(s.processes) - 1; i >= 0; i-- {
		if _, err := s.processes[i].Halt(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	for _, server := range s.servers {
		server.Close() //nolint:errcheck // it ends anyway
	}
}

// series is one line of an answer of Prometheus.
type series struct {
	Metric map[string]string    `json:"metric"`
	Value  [2]json.RawMessage   `json:"value"`
	Values [][2]json.RawMessage `json:"values"`
}

// ask sends a query; over is how far back, or zero for this instant.
func (s *Stand) ask(ctx context.Context, expr string, over time.Duration) ([]series, error) {
	expr = strings.NewReplacer("$job", "sallyport", "$__rate_interval", "15s").Replace(expr)
	now := time.Now()
	target := s.Prometheus + "/api/v1/query?query=" + url.QueryEscape(expr)
	if over > 0 {
		target = fmt.Sprintf("%s/api/v1/query_range?query=%s&start=%d&end=%d&step=%d", s.Prometheus, url.QueryEscape(expr),
			now.Add(-over).Unix(), now.Unix(), max(1, int(over.Seconds())/120))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct{ Result []series }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	return answer.Data.Result, nil
}
