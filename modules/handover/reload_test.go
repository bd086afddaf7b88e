package handover

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

const globals = "{\n\tauto_https off\n\tgrace_period 10s\n\tservers {\n\t\tprotocols h1 h2 h2c\n\t\tlistener_wrappers {\n\t\t\thandover\n\t\t}\n\t}\n}\n"

// client is an HTTP/1.1 client that never asks twice. It keeps its connection
// for as long as the server does not say that it closes it.
type client struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ask returns the body of the answer.
func (c *client) ask(request string) (string, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return "", fmt.Errorf("dial: %w", err)
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	c.conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a dead connection fails below
	if _, err := io.WriteString(c.conn, request); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", fmt.Errorf("read: %w", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("read the body: %w", err)
	}
	if res.Close {
		c.close()
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", res.StatusCode)
	}
	return string(body), nil
}

const post = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello"

// load asks without pause until told to stop, and returns how many requests
// were answered; every failure is reported.
func load(t *testing.T, addr, request string, callers int, keep bool) (answered *atomic.Int64, stop func() int64) {
	t.Helper()
	answered = new(atomic.Int64)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range callers {
		wg.Go(func() {
			c := &client{addr: addr}
			defer c.close()
			for {
				select {
				case <-done:
					return
				default:
				}
				if body, err := c.ask(request); err != nil || body == "" {
					t.Errorf("after %d requests: %q and %v", answered.Load(), body, err)
					c.close()
				}
				answered.Add(1)
				if !keep {
					c.close()
				}
			}
		})
	}
	return answered, func() int64 {
		close(done)
		wg.Wait()
		return answered.Load()
	}
}

// reloads is how often a configuration is replaced under load. `make rolling`
// sets it to 300.
func reloads(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SALLYPORT_RELOADS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// No request is lost when the configuration is replaced under load, whether
// clients keep their connections or not. Caddy's own listeners lose two to four
// for each reload here.
func TestReloadLosesNoRequest(t *testing.T) {
	times := reloads(t)
	for _, c := range []struct {
		name, request string
		keep          bool
	}{
		{"kept connections", post, true},
		{"kept connections without a body", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", true},
		{"a connection each", post, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := gateway.Addr(t)
			config := func(n int) string {
				return fmt.Sprintf("%shttp://%s {\n\theader X-Config %d\n\trespond ok\n}\n", globals, addr, n)
			}
			gateway.Run(t, config(0))
			answered, stop := load(t, addr, c.request, 8, c.keep)
			for n := range times {
				if err := gateway.Load(t, config(n+1)); err != nil {
					t.Error(err)
				}
				for before := answered.Load(); answered.Load() < before+50; {
					runtime.Gosched()
				}
			}
			t.Logf("%d requests, %d reloads", stop(), times)
		})
	}
}

// A connection that waits for its next request goes on with the next
// configuration, again and again.
func TestIdleConnectionOutlivesReloads(t *testing.T) {
	addr := gateway.Addr(t)
	config := func(n int) string {
		return fmt.Sprintf("%shttp://%s {\n\trespond \"config %d\"\n}\n", globals, addr, n)
	}
	gateway.Run(t, config(0))
	c := &client{addr: addr}
	defer c.close()
	for n := range 5 {
		body, err := c.ask(post)
		if want := fmt.Sprint("config ", n); err != nil || body != want {
			t.Fatalf("got %q and %v, want %q", body, err, want)
		}
		if c.conn == nil {
			t.Fatal("the server closed the connection")
		}
		if err := gateway.Load(t, config(n+1)); err != nil {
			t.Fatal(err)
		}
	}
}

// Half a request that the old configuration has read is whole for the next.
func TestHalfARequestOutlivesAReload(t *testing.T) {
	addr := gateway.Addr(t)
	site := globals + "http://" + addr + " {\n\trespond \"{http.request.header.X-A} {http.request.body}\"\n}\n"
	gateway.Run(t, site)
	c := &client{addr: addr}
	defer c.close()
	if _, err := c.ask(post); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c.conn, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Load(t, site+"# changed\n"+"http://"+gateway.Addr(t)+" {\n}\n"); err != nil {
		t.Fatal(err)
	}
	body, err := c.ask("whole\r\nContent-Length: 5\r\n\r\nhello")
	if err != nil || body != "whole hello" {
		t.Errorf("got %q and %v", body, err)
	}
}

// A configuration that fails to start changes nothing, and what it took in
// between comes back.
func TestFailedReloadKeepsConnections(t *testing.T) {
	addr := gateway.Addr(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	site := globals + "http://" + addr + " {\n\trespond first\n}\n"
	gateway.Run(t, site)
	c := &client{addr: addr}
	defer c.close()
	_, stop := load(t, addr, post, 4, true)
	for range 10 {
		err := gateway.Load(t, globals+"http://"+addr+" {\n\trespond second\n}\nhttp://"+taken.Addr().String()+" {\n}\n")
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Fatalf("got %v, want a refusal: the second address is taken", err)
		}
		if body, err := c.ask(post); err != nil || body != "first" {
			t.Fatalf("got %q and %v, want the first configuration's answer", body, err)
		}
	}
	stop()
}
