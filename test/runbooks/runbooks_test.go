// Package runbooks runs the commands of docs/runbooks against a gateway, for a
// command that does not work is worst at three in the morning.
package runbooks

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

const pages = "../../docs/runbooks/"

type block struct{ page, text string }

// commands returns the `sh` blocks of the runbooks. Those of the region failover
// need two regions, and are run by `make chaos`.
func commands(t *testing.T) (found []block) {
	t.Helper()
	files, err := filepath.Glob(pages + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Base(file) == "region-failover.md" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(content), "\n```sh\n")
		for _, part := range parts[1:] {
			text, _, closed := strings.Cut(part, "\n```")
			if !closed {
				t.Errorf("%s: a block is never closed", file)
			}
			found = append(found, block{filepath.Base(file), text})
		}
	}
	if len(found) < 10 {
		t.Fatalf("only %d blocks are found", len(found))
	}
	return found
}

func TestCommandsWork(t *testing.T) {
	environment := serve(t)
	for _, b := range commands(t) {
		t.Run(b.page, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", b.text)
			cmd.Env = environment
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s\n%s", err, b.text, out)
			}
		})
	}
}

// serve starts a gateway with all that the runbooks speak of, and returns the
// environment in which their commands run.
func serve(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	binary, err := stage.Binary(dir)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Halt() })
	upstream, err := stage.Upstream("orders")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Halt() })
	var ports [3]string
	for i := range ports {
		if ports[i], err = stage.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	config, err := filepath.Abs("Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(dir, "sallyport")); err != nil && filepath.Dir(binary) != dir {
		t.Fatal(err)
	}
	environment := []string{
		"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "CONFIG=" + config, "SPOOL=" + filepath.Join(dir, "spool"),
		"PORT=" + ports[0], "INTERNAL=" + ports[1], "ADMIN=127.0.0.1:" + ports[2], "UPSTREAM=" + upstream.Addr, "ISSUER=" + issuer.URL(),
		"READY=http://127.0.0.1:" + ports[1] + "/health/ready", "METRICS=http://127.0.0.1:" + ports[1] + "/metrics",
		"JWKS_URL=" + issuer.URL() + "jwks.json",
	}
	gateway, err := stage.Gateway{Binary: binary, Dir: dir, Config: config, Env: environment, Log: filepath.Join(dir, "log")}.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if code, err := gateway.Halt(); err != nil || code != 0 {
			t.Errorf("the gateway ended with code %d: %v\n%s", code, err, strings.Join(gateway.Lines(), "\n"))
		}
	})
	// A circuit exists once a request has met it.
	token, err := issuer.Mint(stage.Token{Alg: "ES256", Claims: issuer.Claims("alice", "orders-api", time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(stage.Patience)
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+ports[0]+"/orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return environment
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no request succeeds: %v %v", res, err)
		}
	}
}
