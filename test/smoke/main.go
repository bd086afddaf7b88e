// Command smoke starts a built gateway as an operator would, waits until it
// calls itself ready, and sends one request with a token and one without.
package main

import (
	_ "embed"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

//go:embed Caddyfile
var caddyfile []byte

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: smoke BINARY")
		os.Exit(2)
	}
	if err := smoke(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "smoke:", err)
		os.Exit(1)
	}
}

func smoke(binary string) (err error) {
	dir, err := os.MkdirTemp("", "sallyport-smoke-")
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
	upstream, err := stage.Upstream("orders")
	if err != nil {
		return err
	}
	defer upstream.Halt() //nolint:errcheck // likewise
	token, err := issuer.Mint(stage.Token{Alg: "ES256", Claims: issuer.Claims("alice", "orders-api", time.Minute)})
	if err != nil {
		return err
	}
	var ports [3]string
	for i := range ports {
		if ports[i], err = stage.FreePort(); err != nil {
			return err
		}
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, caddyfile, 0o600); err != nil {
		return err
	}
	began := time.Now()
	gateway, err := stage.Gateway{
		Binary: binary, Dir: dir, Config: config, Log: filepath.Join(dir, "log"),
		Env: []string{
			"PORT=" + ports[0], "HEALTH=" + ports[1], "CADDY_ADMIN=127.0.0.1:" + ports[2],
			"UPSTREAM=" + upstream.Addr, "ISSUER=" + issuer.URL(), "HOME=" + dir,
		},
	}.Run()
	if err != nil {
		return err
	}
	defer func() {
		code, halted := gateway.Halt()
		if err == nil && (halted != nil || code != 0) {
			err = fmt.Errorf("the gateway ended with code %d: %w", code, halted)
		}
	}()
	if err := await("http://127.0.0.1:"+ports[1]+"/health/ready", http.StatusOK); err != nil {
		return err
	}
	fmt.Printf("ready after %s\n", time.Since(began).Round(time.Millisecond))
	site := "http://127.0.0.1:" + ports[0] + "/orders"
	if err := expect(site, "Bearer "+token, http.StatusOK); err != nil {
		return err
	}
	return expect(site, "", http.StatusUnauthorized)
}

// await asks url until it is answered with status.
func await(url string, status int) error {
	deadline := time.NewTimer(stage.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := get(url, "")
		if err == nil && got == status {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("GET %s is answered with %d, %v after %s; want %d", url, got, err, stage.Patience, status)
		}
	}
}

func expect(url, authorization string, status int) error {
	got, err := get(url, authorization)
	if err != nil {
		return err
	}
	if got != status {
		return fmt.Errorf("GET %s is answered with %d, want %d", url, got, status)
	}
	fmt.Printf("%d as expected\n", status)
	return nil
}

func get(url, authorization string) (int, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}
