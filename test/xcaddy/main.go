// Command xcaddy builds a stock Caddy with each guard alone, as an operator
// would who wants one of them, and sends one request through each binary. It
// runs in the root of the working tree, which is what it builds from.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

const (
	module = "github.com/sallyport-gateway/sallyport"
	caddy  = "github.com/caddyserver/caddy/v2"
)

func main() {
	if err := all(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "xcaddy:", err)
		os.Exit(1)
	}
}

// all builds the rooms named, or every one.
func all(names []string) error {
	dir, err := os.MkdirTemp("", "sallyport-xcaddy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", caddy).Output()
	if err != nil {
		return fmt.Errorf("version of Caddy: %w", err)
	}
	done := 0
	for _, a := range alone {
		if len(names) > 0 && !slices.Contains(names, a.room) {
			continue
		}
		binary := filepath.Join(dir, a.room)
		if err := build(binary, strings.TrimSpace(string(version)), a.room); err != nil {
			return fmt.Errorf("build with %s: %w", a.room, err)
		}
		if err := a.try(binary, dir); err != nil {
			return fmt.Errorf("%s: %w", a.room, err)
		}
		fmt.Printf("%s: built alone, answers %d\n", a.room, a.status)
		done++
		if err := os.Remove(binary); err != nil {
			return err
		}
	}
	if done == 0 {
		return fmt.Errorf("no room is called %v", names)
	}
	return nil
}

// build asks the module proxy first. Xcaddy lists versions there; where a proxy
// does not serve lists, the module cache, which is one itself, holds all that
// the build needs.
func build(binary, version, room string) error {
	args := []string{
		"tool", "xcaddy", "build", version, "--output", binary,
		"--with", module + "/modules/" + room, "--replace", module + "=.",
	}
	out, err := exec.Command("go", args...).CombinedOutput()
	if err == nil {
		return nil
	}
	fmt.Printf("%s: with the module proxy: %v; building from the module cache\n", room, err)
	if more, err := exec.Command("go", "mod", "download").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s\ngo mod download: %s", err, out, more)
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return err
	}
	again := exec.Command("go", args...)
	again.Env = append(os.Environ(), "GOPROXY=file://"+filepath.ToSlash(strings.TrimSpace(string(cache)))+"/cache/download")
	if out, err := again.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// try starts binary with the room's Caddyfile and sends one request.
func (a room) try(binary, dir string) (err error) {
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		return err
	}
	defer issuer.Halt() //nolint:errcheck // the program ends soon
	sink, err := stage.Upstream("upstream")
	if err != nil {
		return err
	}
	defer sink.Halt() //nolint:errcheck // likewise
	port, err1 := stage.FreePort()
	admin, err2 := stage.FreePort()
	config := filepath.Join(dir, a.room+".Caddyfile")
	if err := errors.Join(err1, err2, os.WriteFile(config, []byte(a.caddyfile), 0o600)); err != nil {
		return err
	}
	gateway, err := stage.Gateway{
		Binary: binary, Dir: dir, Config: config, Log: filepath.Join(dir, a.room+".log"),
		Env: []string{
			"PORT=" + port, "CADDY_ADMIN=127.0.0.1:" + admin, "HOME=" + dir,
			"UPSTREAM=" + sink.Addr, "ISSUER=" + issuer.URL(),
		},
	}.Run()
	if err != nil {
		return err
	}
	defer func() {
		if _, halted := gateway.Halt(); err == nil {
			err = halted
		}
	}()
	res, err := http.Get("http://127.0.0.1:" + port + a.path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != a.status {
		return fmt.Errorf("GET %s is answered with %d, want %d\n%s", a.path, res.StatusCode, a.status, body)
	}
	return nil
}
