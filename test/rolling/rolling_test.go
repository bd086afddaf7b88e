// Package rolling restarts gateways in turn while clients of each protocol go
// on asking, and counts what they lose.
package rolling

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/sallyport-gateway/sallyport/test/stage"

	// Go takes a passed test for passed until what it imports changes: these
	// change whenever the gateway does.
	_ "github.com/sallyport-gateway/sallyport/modules/standard"
)

const caddyfile = `{
	admin off
	auto_https off
	shutdown_delay 1s
	grace_period 30s
	servers {
		protocols h1 h2c
		listener_wrappers {
			handover
			route_index
		}
	}
}

http://:%[1]s {
	bind 127.0.0.1
	health
}

http://:%[2]s {
	bind 127.0.0.1
	telemetry
	problem
	rate_limit {
		zone all {
			key {client_ip}
			rate 1000000/1s
		}
	}
	@grpc header Content-Type application/grpc*
	breaker_proxy @grpc h2c://%[3]s
	breaker_proxy %[4]s
}
`

// gateway is one of those that are restarted.
type gateway struct {
	*stage.Process
	backend *backend
	start   func() (*stage.Process, error)
}

func newGateway(t *testing.T, binary, grpcUpstream, upstream string) *gateway {
	t.Helper()
	pulse, err1 := stage.FreePort()
	port, err2 := stage.FreePort()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, fmt.Appendf(nil, caddyfile, pulse, port, grpcUpstream, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	g := &gateway{backend: &backend{addr: "127.0.0.1:" + port, ready: "http://127.0.0.1:" + pulse + "/health/ready"}}
	g.start = stage.Gateway{
		Binary: binary, Dir: dir, Env: []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
		Config: config, Log: filepath.Join(dir, "log"),
	}.Run
	if g.Process, err1 = g.start(); err1 != nil {
		t.Fatal(err1)
	}
	t.Cleanup(func() {
		if t.Failed() {
			lines := g.Lines()
			t.Logf("the gateway's log ends with\n%s", strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
		g.Crash() //nolint:errcheck // it may have ended
	})
	return g
}

// restart ends the gateway as a cluster does and starts it again.
func (g *gateway) restart(t *testing.T) {
	t.Helper()
	code, err := g.Halt()
	if err != nil || code != 0 {
		t.Errorf("the gateway ended with code %d and %v, want 0", code, err)
	}
	if g.Process, err = g.start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !g.backend.in.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the gateway does not get ready")
		}
	}
}

// requests is how many requests a run takes at least. `make rolling` sets it
// to 100000.
func requests(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("SALLYPORT_ROLLING")
	if text == "" {
		return 2000
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Two gateways are restarted in turn, and no client of any protocol loses a
// request: none of them asks a second time for an answer it did not get, but
// for what GOAWAY says was never begun.
func TestRollingRestartLosesNothing(t *testing.T) {
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := stage.Upstream("orders")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { upstream.Halt() }) //nolint:errcheck // the end of the test
	calls := serveGRPC(t)
	gateways := []*gateway{newGateway(t, binary, calls, upstream.Addr), newGateway(t, binary, calls, upstream.Addr)}
	f := newFront(t, gateways[0].backend, gateways[1].backend)
	for _, g := range gateways {
		for !g.backend.in.Load() {
			time.Sleep(10 * time.Millisecond)
		}
	}

	kinds := []struct {
		name string
		kind
	}{
		{"HTTP/1.1", http1}, {"HTTP/2", http2}, {"gRPC", unary}, {"gRPC streams", streams},
	}
	var answered atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	counts := make([]atomic.Int64, len(kinds))
	for i, k := range kinds {
		for range 3 {
			wg.Go(func() {
				ask, end := k.kind(t, f.Addr().String())
				defer end()
				for {
					select {
					case <-done:
						return
					default:
					}
					if err := ask(); err != nil {
						t.Errorf("%s, after %d requests of all kinds: %v", k.name, answered.Load(), err)
					}
					counts[i].Add(1)
					answered.Add(1)
				}
			})
		}
	}
	restarts := 0
	for goal := requests(t); answered.Load() < goal || restarts < len(gateways); restarts++ {
		gateways[restarts%len(gateways)].restart(t)
		upstream.Forget()
		for before := answered.Load(); answered.Load() < before+200; {
			time.Sleep(time.Millisecond)
		}
	}
	close(done)
	wg.Wait()
	for i, k := range kinds {
		t.Logf("%s: %d", k.name, counts[i].Load())
		if counts[i].Load() == 0 {
			t.Errorf("%s: no request", k.name)
		}
	}
	t.Logf("%d requests in all, %d restarts", answered.Load(), restarts)
}

func serveGRPC(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	go server.Serve(l) //nolint:errcheck // Stop ends it
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// kind is a client: it returns how to ask once, and how to end.
type kind func(t *testing.T, addr string) (ask func() error, end func())

const patience = time.Minute

// http1 keeps its connection until the server says that it closes it, and
// never asks twice.
func http1(_ *testing.T, addr string) (func() error, func()) {
	var conn net.Conn
	var in *bufio.Reader
	end := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	return func() error {
		if conn == nil {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			conn, in = c, bufio.NewReader(c)
		}
		conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // a dead connection fails below
		_, err := io.WriteString(conn, "POST /orders HTTP/1.1\r\nHost: orders\r\nContent-Length: 5\r\n\r\nhello")
		var res *http.Response
		if err == nil {
			res, err = http.ReadResponse(in, nil)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		if err == nil && res.StatusCode != http.StatusOK {
			err = errors.New(res.Status)
		}
		if err != nil || res.Close {
			end()
		}
		return err
	}, end
}

func http2(_ *testing.T, addr string) (func() error, func()) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	client := &http.Client{Transport: transport, Timeout: patience}
	return func() error {
		res, err := client.Post("http://"+addr+"/orders", "text/plain", strings.NewReader("hello"))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
			return fmt.Errorf("%s %s", res.Proto, res.Status)
		}
		return nil
	}, transport.CloseIdleConnections
}

func dial(t *testing.T, addr string) (testgrpc.TestServiceClient, func()) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)
	}
	return testgrpc.NewTestServiceClient(conn), func() { conn.Close() }
}

func unary(t *testing.T, addr string) (func() error, func()) {
	client, end := dial(t, addr)
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := client.EmptyCall(ctx, new(testgrpc.Empty))
		return err
	}, end
}

// streams plays one round of ping-pong for each request it counts.
func streams(t *testing.T, addr string) (func() error, func()) {
	client, end := dial(t, addr)
	request := &testgrpc.StreamingOutputCallRequest{
		ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1000}}, Payload: &testgrpc.Payload{Body: make([]byte, 1000)},
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for range 5 {
			if err := stream.Send(request); err != nil {
				return err
			}
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != io.EOF {
			return fmt.Errorf("the stream ends with %v", err)
		}
		return nil
	}, end
}
