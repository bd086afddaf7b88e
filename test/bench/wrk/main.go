// Command wrk puts the built gateway under load on loopback, once as a bare
// reverse_proxy and once with all guards, and prints what each run reached. The
// load generator, the upstream and the gateway share one machine: the ratio of
// the rows is worth more than their figures.
package main

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

//go:embed Caddyfile
var caddyfile []byte

// callers is the number of connections; there is no more load than they make
// by asking again as soon as they are answered.
const callers = "16"

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: wrk BINARY [DURATION]")
		os.Exit(2)
	}
	if err := bench(os.Args[1], cmp.Or(append(os.Args, "")[2], "5s")); err != nil {
		fmt.Fprintln(os.Stderr, "wrk:", err)
		os.Exit(1)
	}
}

func bench(binary, duration string) error {
	dir, err := os.MkdirTemp("", "sallyport-wrk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		return err
	}
	defer issuer.Halt() //nolint:errcheck // the program ends anyway
	claims := issuer.Claims("alice", "orders-api", time.Hour)
	claims["scope"] = "orders:read"
	token, err := issuer.Mint(stage.Token{Alg: "ES256", Claims: claims})
	if err != nil {
		return err
	}
	upstream, err := answering()
	if err != nil {
		return err
	}
	defer upstream.Close()
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, caddyfile, 0o600); err != nil {
		return err
	}
	fmt.Printf("%s connections for %s\n%-8s %12s %12s %12s %16s\n", callers, duration, "", "requests/s", "p50", "p99", "CPU a request")
	for _, path := range []string{"/bare", "/stock", "/direct", "/chain"} {
		gateway := stage.Gateway{
			Binary: binary, Dir: dir, Config: config, Log: filepath.Join(dir, "log"),
			Env: []string{"HOME=" + dir, "UPSTREAM=" + upstream.Addr, "ISSUER=" + issuer.URL(), "SINK=http://" + upstream.Addr + "/"},
		}
		if err := one(gateway, path, token, duration); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// answering starts an upstream that answers with two bytes and forgets.
func answering() (*http.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Addr: l.Addr().String(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok") //nolint:errcheck // the caller went away
	})}
	go server.Serve(l) //nolint:errcheck // it ends with ErrServerClosed
	return server, nil
}

var (
	rate     = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	requests = regexp.MustCompile(`(\d+) requests in`)
	p50      = regexp.MustCompile(`(?m)^\s+50%\s+(\S+)`)
	p99      = regexp.MustCompile(`(?m)^\s+99%\s+(\S+)`)
	failures = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

// one loads one path of one gateway.
func one(gateway stage.Gateway, path, token, duration string) error {
	port, err1 := stage.FreePort()
	admin, err2 := stage.FreePort()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	gateway.Env = append(gateway.Env, "PORT="+port, "CADDY_ADMIN=127.0.0.1:"+admin)
	p, err := gateway.Run()
	if err != nil {
		return err
	}
	out, err := exec.Command("wrk", "--threads", "1", "--connections", callers, "--duration", duration, "--latency",
		"--header", "Authorization: Bearer "+token, "http://127.0.0.1:"+port+path).CombinedOutput()
	_, halted := p.Halt()
	if err := errors.Join(err, halted); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if bad := failures.FindSubmatch(out); bad != nil {
		return fmt.Errorf("not every request was answered with 200: %s", bad[1])
	}
	text := func(re *regexp.Regexp) string {
		if m := re.FindSubmatch(out); m != nil {
			return string(m[1])
		}
		return "?"
	}
	n, err := strconv.Atoi(text(requests))
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	// The start is in it: about 0.2 s, spread over all requests.
	each := p.CPU() / time.Duration(n)
	fmt.Printf("%-8s %12s %12s %12s %16s\n", path[1:], text(rate), text(p50), text(p99), each.Round(100*time.Nanosecond))
	return nil
}
