package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// balancer is HAProxy as it stands in front of gateways: probes decide who gets
// requests, a refused connection is tried elsewhere, and a GET whose connection
// broke before any answer is sent once more.
const balancer = `global
	maxconn 8192
	stats socket %[4]s mode 600 level admin
defaults
	mode http
	timeout connect 2s
	timeout client 60s
	timeout server 30s
	timeout check 5s
	option redispatch 1
	retries 3
frontend front
	bind 127.0.0.1:%[1]s
	acl grpc req.hdr(content-type) -m beg application/grpc
	http-request disable-l7-retry if !METH_GET
	use_backend calls if grpc
	default_backend requests
backend requests
	balance roundrobin
	retry-on conn-failure empty-response
	option httpchk GET /health/ready
	default-server inter 250ms fastinter 250ms downinter 250ms fall 1 rise 2
%[2]sbackend calls
	balance roundrobin
	retry-on conn-failure
	option httpchk GET /health/ready
	default-server inter 250ms fastinter 250ms downinter 250ms fall 1 rise 2 proto h2 check-proto h1
%[3]s`

// startFront starts the balancer before the gateways and returns when both are in.
func (s *stand) startFront(ctx context.Context) error {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		return errors.New("haproxy is not installed; `make chaos` installs it where apt-get is there")
	}
	number, err := stage.FreePort()
	if err != nil {
		return err
	}
	var servers strings.Builder
	for _, g := range s.gateways {
		fmt.Fprintf(&servers, "\tserver %s %s weight 100 check addr 127.0.0.1 port %s\n", g.name, g.site, g.probes)
	}
	file := filepath.Join(s.dir, "haproxy.cfg")
	config := fmt.Sprintf(balancer, number, servers.String(), servers.String(), s.socket)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	if err := s.add(stage.Launch(exec.Command(path, "-db", "-f", file), filepath.Join(s.dir, "haproxy.log"))); err != nil {
		return err
	}
	s.front = "http://127.0.0.1:" + number
	return await(ctx, patience, func() error {
		res, err := http.Get(s.front + "/")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("the front answers %s, want the gateways' 401", res.Status)
		}
		return nil
	})
}

// taken says whether the balancer gives requests to a gateway.
func (s *stand) taken(ctx context.Context, name string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", s.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "show stat\n"); err != nil {
		return err
	}
	table, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	up := 0
	for line := range strings.Lines(string(table)) {
		if fields := strings.Split(line, ","); len(fields) > 17 && fields[1] == name && fields[17] == "UP" {
			up++
		}
	}
	if up != 2 {
		return fmt.Errorf("the balancer has %s in %d of 2 backends", name, up)
	}
	return nil
}
