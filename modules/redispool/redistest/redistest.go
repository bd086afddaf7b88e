// Package redistest starts real Redis servers for tests, on loopback and free
// ports, and stops them when the test ends.
package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/port"
)

// Server is one running redis-server.
type Server struct {
	// Addr is where it listens, as host:port.
	Addr string

	tb   testing.TB
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// Start starts a server that persists nothing, with further redis-server
// arguments such as `--requirepass secret`. Where redis-server is not installed
// the test is skipped and says so.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Skip("redis-server is not installed; `make test` installs it")
	}
	for range 5 {
		n := FreePort(tb)
		s := &Server{tb: tb, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(n))}
		s.args = append([]string{"--port", strconv.Itoa(n), "--bind", "127.0.0.1", "--dir", tb.TempDir(),
			"--save", "", "--appendonly", "no", "--daemonize", "no"}, args...)
		if s.run() == nil {
			tb.Cleanup(s.Stop)
			return s
		}
	}
	tb.Fatal("redis-server does not start")
	return nil
}

// startSentinel starts a sentinel with the configuration file conf, which the
// sentinel rewrites.
func startSentinel(tb testing.TB, conf string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Skip("redis-server is not installed; `make test` installs it")
	}
	number := strconv.Itoa(FreePort(tb))
	s := &Server{tb: tb, Addr: net.JoinHostPort("127.0.0.1", number)}
	s.args = []string{conf, "--sentinel", "--port", number, "--bind", "127.0.0.1", "--dir", tb.TempDir()}
	if err := s.run(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// FreePort returns a port on which nobody listens now.
func FreePort(tb testing.TB) int {
	tb.Helper()
	return port.Of(tb)
}

// run starts the process and returns when it accepts connections.
func (s *Server) run() error {
	cmd := exec.Command("redis-server", s.args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.done = cmd, make(chan struct{})
	ready := make(chan bool, 1)
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			text := lines.Text()
			if strings.Contains(text, "Ready to accept connections") || strings.Contains(text, "Sentinel ID is") {
				ready <- true
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}()
	select {
	case <-ready:
		return nil
	case <-s.done:
		return fmt.Errorf("redis-server %s ended at once", s.Addr)
	case <-time.After(20 * time.Second):
		s.Stop()
		return fmt.Errorf("redis-server %s is not ready", s.Addr)
	}
}

// Stop ends the server at once, as a crash would. Stopping twice does no harm.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// Restart starts a stopped server again, empty, at the same address.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := s.run(); err != nil {
		s.tb.Fatal(err)
	}
}

// PID is the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// CPU is the processor time that the server's main thread has used, or zero
// where the system does not tell.
func (s *Server) CPU() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", s.PID(), s.PID()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	ns, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
}
