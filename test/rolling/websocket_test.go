package rolling

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

const graceful = `{
	admin off
	auto_https off
	grace_period %s
	servers {
		listener_wrappers {
			handover
			route_index
		}
	}
}

http://:%s {
	bind 127.0.0.1
	breaker_proxy %s
}
`

// one starts a gateway in front of upstream.
func one(t *testing.T, grace, upstream string) (p *stage.Process, addr string) {
	t.Helper()
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	port, err := stage.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, fmt.Appendf(nil, graceful, grace, port, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err = stage.Gateway{
		Binary: binary, Dir: dir, Env: []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
		Config: config, Log: filepath.Join(dir, "log"),
	}.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Crash() }) //nolint:errcheck // it may have ended
	return p, "127.0.0.1:" + port
}

// echo is an upstream that sends back the frames of a WebSocket, unmasked.
func echo(t *testing.T) string {
	t.Helper()
	server, err := stage.Serve("echo", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		for {
			frame := make([]byte, 6)
			if _, err := io.ReadFull(rw, frame); err != nil {
				return
			}
			payload := make([]byte, frame[1]&0x7f)
			if _, err := io.ReadFull(rw, payload); err != nil {
				return
			}
			conn.Write(append([]byte{frame[0], byte(len(payload))}, payload...)) //nolint:errcheck // read next
			if frame[0]&0x0f == 8 {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Halt() }) //nolint:errcheck // the end of the test
	return server.Addr
}

// websocket opens one and returns it with how to play a frame back and forth.
func websocket(t *testing.T, addr string) (conn net.Conn, in *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // a dead connection fails below
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: echo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in = bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v and %v, want 101", res, err)
	}
	return conn, in
}

// send masks a frame with zeros, which leave it as it is.
func send(t *testing.T, conn net.Conn, opcode byte, payload string) {
	t.Helper()
	if _, err := conn.Write(append([]byte{0x80 | opcode, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, in *bufio.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got % x and %v, want % x", got, err, want)
	}
}

// A WebSocket works on for the whole grace period, is then told to come back,
// and the process ends as it should.
func TestWebSocketIsToldOfTheRestart(t *testing.T) {
	p, addr := one(t, "3s", echo(t))
	conn, in := websocket(t, addr)
	send(t, conn, 1, "before")
	receive(t, in, append([]byte{0x81, 6}, "before"...))
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break // the listener is closed
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("the gateway still listens")
		}
	}
	send(t, conn, 1, "after")
	receive(t, in, append([]byte{0x81, 5}, "after"...))
	receive(t, in, []byte{0x88, 2, 0x03, 0xf4}) // 1012
	send(t, conn, 8, "\x03\xf4")
	if code, err := p.Ended(); err != nil || code != 0 {
		t.Errorf("the gateway ended with %d and %v, want 0", code, err)
	}
}

// The exit code tells that a request was cut off.
func TestExitCodeTellsOfACutRequest(t *testing.T) {
	slow, err := stage.Upstream("slow")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Halt() }) //nolint:errcheck // the end of the test
	slow.Behave(stage.Mood{Kind: "hang"})
	p, addr := one(t, "500ms", slow.Addr)
	ended := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + addr)
		if err == nil {
			res.Body.Close()
			err = fmt.Errorf("status %s", res.Status)
		}
		ended <- err
	}()
	for deadline := time.Now().Add(patience); len(slow.Seen()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request does not reach the upstream")
		}
	}
	code, err := p.Halt()
	if err != nil || code != 3 {
		t.Errorf("the gateway ended with %d and %v, want 3", code, err)
	}
	if log := strings.Join(p.Lines(), "\n"); !strings.Contains(log, "requests were cut off") {
		t.Errorf("the log does not tell of it:\n%s", log)
	}
	<-ended
}
