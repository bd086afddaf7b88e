package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Binary returns the path of the gateway's binary: the one SALLYPORT names, or
// a build of the working tree put into dir. A test that looks for data races
// gets a gateway that looks for them too.
func Binary(dir string) (string, error) {
	if path := os.Getenv("SALLYPORT"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "sallyport")
	args := []string{"build", "-mod=readonly", "-o", path}
	if race {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/sallyport-gateway/sallyport/cmd/sallyport")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	return path, nil
}

// Gateway is how a gateway is started: its binary, the folder it runs in, its
// environment, its configuration file, and the file its log goes to.
type Gateway struct {
	Binary, Dir string
	Env         []string
	// Config is a Caddyfile, or JSON if its name ends so. Empty starts a
	// gateway that has an admin endpoint only.
	Config string
	// Watch has the gateway follow changes of the file.
	Watch bool
	Log   string
}

// Run starts the gateway and returns once it serves its configuration.
func (g Gateway) Run() (*Process, error) {
	// The gateway itself says when it serves: `run --pingback` sends what it
	// read from its standard input to an address.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	args := []string{"run", "--pingback", l.Addr().String()}
	if g.Config != "" {
		args = append(args, "--config", g.Config)
		if !strings.HasSuffix(g.Config, ".json") {
			args = append(args, "--adapter", "caddyfile")
		}
	}
	if g.Watch {
		args = append(args, "--watch")
	}
	cmd := exec.Command(g.Binary, args...)
	cmd.Dir, cmd.Env = g.Dir, g.Env
	cmd.Stdin = strings.NewReader("serving")
	p, err := Launch(cmd, g.Log)
	if err != nil {
		return nil, err
	}
	if err := p.serving(l); err != nil {
		return nil, errors.Join(err, p.Crash())
	}
	return p, nil
}

// serving waits until the process calls l.
func (p *Process) serving(l net.Listener) error {
	called := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
			conn.Close()
		}
		called <- err
	}()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case err := <-called:
		return err
	case <-p.ended:
		lines := p.Lines()
		last := "without a word"
		if len(lines) > 0 {
			last = lines[len(lines)-1]
		}
		return fmt.Errorf("the gateway ended with code %d: %s", p.cmd.ProcessState.ExitCode(), last)
	case <-timer.C:
		return fmt.Errorf("the gateway does not serve after %s", Patience)
	}
}

// Redis starts a redis-server on port that keeps nothing on disk, and returns
// once it accepts connections.
func Redis(port, dir, password string) (*Process, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed; `make test` installs it where apt-get is there")
	}
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no"}
	if password != "" {
		args = append(args, "--requirepass", password)
	}
	p, err := Launch(exec.Command(path, args...), filepath.Join(dir, "redis-"+port+".log"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ready := func(line string) bool { return strings.Contains(line, "Ready to accept connections") }
	if err := p.AwaitLine(ctx, "'Ready to accept connections'", ready); err != nil {
		return nil, errors.Join(fmt.Errorf("redis-server on port %s: %w", port, err), p.Crash())
	}
	return p, nil
}
