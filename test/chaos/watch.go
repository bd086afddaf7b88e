package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// startPrometheus starts Prometheus with the hastened rules.
func (s *stand) startPrometheus(ctx context.Context, root string) error {
	path, err := exec.LookPath("prometheus")
	if err != nil {
		return errors.New("prometheus is not installed; `make chaos` installs it where apt-get is there")
	}
	rules, err := shippedRules(root)
	if err != nil {
		return err
	}
	for name, text := range rules {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(hasten(text)), 0o600); err != nil {
			return err
		}
	}
	// Git's part is played by the first gateway, which is never given another configuration.
	git := "groups:\n  - name: git\n    rules:\n      - record: sallyport:config_hash:git\n" +
		"        expr: max by (job) (sallyport_config_hash{instance=\"127.0.0.1:" + s.gateways[0].probes + "\"})\n"
	if err := os.WriteFile(filepath.Join(s.dir, "git.rules.yaml"), []byte(git), 0o600); err != nil {
		return err
	}
	var targets []string
	for _, g := range s.gateways {
		targets = append(targets, "127.0.0.1:"+g.probes)
	}
	config, err := json.Marshal(map[string]any{
		"global":     map[string]string{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{s.dir + "/*.rules.yaml"},
		"scrape_configs": []any{map[string]any{"job_name": "sallyport", "static_configs": []any{
			map[string]any{"targets": targets, "labels": map[string]string{"track": "stable"}},
		}}},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "prometheus.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	number, err := stage.FreePort()
	if err != nil {
		return err
	}
	s.prometheus = "http://127.0.0.1:" + number
	cmd := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(s.dir, "tsdb"), "--web.listen-address=127.0.0.1:"+number)
	if err := s.add(stage.Launch(cmd, filepath.Join(s.dir, "prometheus.log"))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.processes[len(s.processes)-1].AwaitLine(ctx, "'ready to receive web requests'", func(line string) bool {
		return strings.Contains(line, "ready to receive web requests")
	})
}

// watch knows which alerts fire, and since when.
type watch struct {
	mu     sync.Mutex // guards the rest
	firing map[string]bool
	turns  []turn
	err    error
}

// turn is an alert that begins to fire or clears.
type turn struct {
	at     time.Time
	alert  string
	firing bool
}

// follow asks Prometheus twice a second until ctx ends.
func (w *watch) follow(ctx context.Context, prometheus string) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := firing(ctx, prometheus)
		w.note(found, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *watch) note(found map[string]bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err = err; err != nil {
		return
	}
	now := time.Now()
	for name := range found {
		if !w.firing[name] {
			w.turns = append(w.turns, turn{now, name, true})
		}
	}
	for name := range w.firing {
		if !found[name] {
			w.turns = append(w.turns, turn{now, name, false})
		}
	}
	w.firing = found
}

// missing says which of names does not fire.
func (w *watch) missing(names []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		if !w.firing[name] {
			return errors.Join(fmt.Errorf("%s does not fire", name), w.err)
		}
	}
	return nil
}

// cleared says which of names fires; without names, which alert at all.
func (w *watch) cleared(names ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.firing {
		if len(names) == 0 || slices.Contains(names, name) {
			return fmt.Errorf("%s still fires", name)
		}
	}
	if w.firing == nil {
		return errors.Join(errors.New("nothing is known of the alerts"), w.err)
	}
	return nil
}

// since are the turns from then on.
func (w *watch) since(then time.Time) (turns []turn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.turns {
		if !t.at.Before(then) {
			turns = append(turns, t)
		}
	}
	return turns
}

func firing(ctx context.Context, prometheus string) (map[string]bool, error) {
	status, body, err := fetch(ctx, http.MethodGet, prometheus+"/api/v1/alerts", "", "")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("prometheus answers %d %s: %w", status, body, err)
	}
	found := make(map[string]bool)
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			found[a.Labels["alertname"]] = true
		}
	}
	return found, nil
}
