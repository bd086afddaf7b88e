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

// asProgram makes the test binary the program itself.
const asProgram = "SALLYPORT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestWatchFollowsAMountedConfigMap changes a configuration as a kubelet does:
// the file is a link through `..data`, which is swapped for another folder. A
// bad file in between changes nothing and does not end the watch.
func TestWatchFollowsAMountedConfigMap(t *testing.T) {
	home, site := t.TempDir(), port.Addr(t)
	version := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(home, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, name, "Caddyfile"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(home, "..next")
		if err := os.Symlink(name, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(home, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	page := func(answer string) string {
		return fmt.Sprintf("http://%s {\n\trespond / %s\n\tmetrics /metrics\n}\n", site, answer)
	}
	version("a", page("one"))
	if err := os.Symlink("..data/Caddyfile", filepath.Join(home, "Caddyfile")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "run", "--watch", "--config", filepath.Join(home, "Caddyfile"))
	cmd.Env = []string{asProgram + "=1", "HOME=" + home, "CADDY_ADMIN=unix/" + filepath.Join(home, "admin.sock") + "|0600"}
	p, err := stage.Launch(cmd, filepath.Join(home, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Crash() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	says := func(text string) {
		t.Helper()
		if err := p.AwaitLine(ctx, text, func(line string) bool { return strings.Contains(line, text) }); err != nil {
			t.Fatal(err)
		}
	}
	becomes := func(path, want string) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for got := ask(t, site+path); !strings.Contains(got, want); got = ask(t, site+path) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s is still without %q:\n%s", path, want, got)
			}
		}
	}
	says("serving initial configuration")

	version("bb", page("two"))
	becomes("/", "two")
	becomes("/metrics", "sallyport_config_file_in_force 1")
	version("ccc", "http://"+site+" {\n\tbogus\n}\n")
	says("unable to load latest config")
	becomes("/", "two")
	becomes("/metrics", "sallyport_config_file_in_force 0")
	version("dddd", page("three"))
	becomes("/", "three")
	becomes("/metrics", "sallyport_config_file_in_force 1")
	if code, err := p.Halt(); err != nil || code != 0 {
		t.Errorf("SIGTERM: exit code %d, %v", code, err)
	}
}
