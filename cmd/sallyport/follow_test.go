package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/test/port"
)

func TestFollowedTakesOnlyWatchOut(t *testing.T) {
	for _, c := range []struct{ args, rest, file, adapter string }{
		{"run --watch", "run", "Caddyfile", ""},
		{"run -w -c site.json", "run -c site.json", "site.json", ""},
		{"run --config=a.yaml --watch=true --adapter yaml --pingback 1", "run --config=a.yaml --adapter yaml --pingback 1", "a.yaml", "yaml"},
		{"run --envfile x --watch --config a", "run --envfile x --config a", "a", ""},
		{"run --config a", "run --config a", "", ""},
		{"run --watch --resume", "run --watch --resume", "", ""},
		{"run --watch --config -", "run --watch --config -", "", ""},
		{"run -ew", "run -ew", "", ""},
		{"run --watch --help", "run --watch --help", "", ""},
		{"start --watch", "start --watch", "", ""},
	} {
		rest, f := followed(append([]string{"sallyport"}, strings.Fields(c.args)...))
		if got := strings.Join(rest[1:], " "); got != c.rest {
			t.Errorf("%s: leaves %q, want %q", c.args, got, c.rest)
		}
		if (f == nil) != (c.file == "") || f != nil && (f.file != c.file || f.adapter != c.adapter) {
			t.Errorf("%s: follows %+v, want %q by %q", c.args, f, c.file, c.adapter)
		}
	}
	if rest, _ := followed([]string{"sallyport"}); !slices.Equal(rest, []string{"sallyport"}) {
		t.Errorf("no command: leaves %q", rest)
	}
}

// TestRefusedFileIsTriedAgain has a file that is right and an address that is
// in use: once it is free, the same file is loaded, though not before its time.
func TestRefusedFileIsTriedAgain(t *testing.T) {
	was, next := port.Addr(t), port.Addr(t)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	write := func(addr string) {
		t.Helper()
		text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n}\nhttp://%s {\n\trespond %s\n}\n", addr, addr)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(was)
	f := &follower{file: file}
	first, err := f.read()
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(first, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	f.running = first

	busy, err := net.Listen("tcp", next)
	if err != nil {
		t.Fatal(err)
	}
	write(next)
	now := time.Now()
	f.look(now)
	if body := ask(t, was); body != was {
		t.Errorf("after a refused file: %q", body)
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	f.look(now.Add(firstRetry - time.Second))
	if body := ask(t, was); body != was {
		t.Errorf("before its time: %q", body)
	}
	f.look(now.Add(firstRetry))
	if body := ask(t, next); body != next {
		t.Errorf("after its time: %q", body)
	}
	if f.retry != 0 {
		t.Errorf("still to be tried again after %s", f.retry)
	}
}

func ask(t *testing.T, addr string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
