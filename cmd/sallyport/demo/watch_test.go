package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// TestWatchFollowsAMountedConfigMap changes a configuration as a kubelet does:
// the file is a link through `..data`, which is swapped for another folder.
func TestWatchFollowsAMountedConfigMap(t *testing.T) {
	home := t.TempDir()
	site := fmt.Sprintf("http://127.0.0.1:%d", redistest.FreePort(t))
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
	page := func(answer string) string { return site + " {\n\trespond " + answer + "\n}\n" }
	version("a", page("one"))
	if err := os.Symlink("..data/Caddyfile", filepath.Join(home, "Caddyfile")); err != nil {
		t.Fatal(err)
	}
	env := []string{"CADDY_ADMIN=unix/" + filepath.Join(home, "admin.sock") + "|0600"}
	p := sallyportWith(t, home, env, "run", "--watch", "--config", filepath.Join(home, "Caddyfile"))
	// What changes before the watcher has read the file once is not a change to it.
	p.until("watching config file for changes")

	version("bb", page("two"))
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		_, body := ask(t, site, "")
		if body == "two" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the gateway still answers %q 30 s after the change", body)
		}
	}

	version("ccc", site+" {\n\tbogus\n}\n")
	p.until("unable to load latest config")
	if _, body := ask(t, site, ""); body != "two" {
		t.Errorf("after a bad file the gateway answers %q, want what it answered before", body)
	}
	if code, printed := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d; printed:\n%s", code, printed)
	}
}
