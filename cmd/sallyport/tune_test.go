package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/port"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

// TestTwoProcessorsAtLeast pins the program to one core. On another system than
// Linux there is nothing to pin it with, and the number of cores is what it is.
func TestTwoProcessorsAtLeast(t *testing.T) {
	for _, tt := range []struct {
		variables          []string
		processors, gcLine string
	}{
		{nil, "go_sched_gomaxprocs_threads 2\n", "go_gc_gogc_percent 400\n"},
		{[]string{"GOMAXPROCS=1", "GOGC=77"}, "go_sched_gomaxprocs_threads 1\n", "go_gc_gogc_percent 77\n"},
	} {
		home, site := t.TempDir(), port.Addr(t)
		config := filepath.Join(home, "Caddyfile")
		if err := os.WriteFile(config, fmt.Appendf(nil, "http://%s {\n\tmetrics\n}\n", site), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("taskset", "--cpu-list", "0", os.Args[0], "run", "--config", config)
		cmd.Env = append([]string{asProgram + "=1", "HOME=" + home, "CADDY_ADMIN=unix/" + filepath.Join(home, "admin.sock") + "|0600"}, tt.variables...)
		p, err := stage.Launch(cmd, filepath.Join(home, "log"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Crash() })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err = p.AwaitLine(ctx, "serving", func(line string) bool { return strings.Contains(line, "serving initial configuration") })
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, site+"/"); !strings.Contains(got, tt.processors) || !strings.Contains(got, tt.gcLine) {
			t.Errorf("with %v: want %q and %q in\n%s", tt.variables, tt.processors, tt.gcLine, got)
		}
	}
}
