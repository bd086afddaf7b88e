package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-gateway/sallyport/test/port"
)

// Patience is how long an actor may take to come, to go, or to do what is
// waited for. It is generous: a loaded machine is no failure.
const Patience = 20 * time.Second

// Process is a program that plays a part, with everything it prints.
type Process struct {
	cmd   *exec.Cmd
	lines journal[string]
	rest  strings.Builder // an unfinished line; only the copying goroutine uses it
	log   *os.File
	ended chan struct{} // closed once err is set
	err   error
}

// Launch starts cmd and copies what it prints to the file logPath.
func Launch(cmd *exec.Cmd, logPath string) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, log: log, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = withParent()
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", cmd.Path, err), log.Close())
	}
	go func() {
		p.err = cmd.Wait()
		log.Close()
		close(p.ended)
	}()
	return p, nil
}

// Write takes what the process prints. The os/exec package calls it from one
// goroutine, since stdout and stderr are the same writer.
func (p *Process) Write(text []byte) (int, error) {
	p.rest.Write(text)
	for {
		line, rest, whole := strings.Cut(p.rest.String(), "\n")
		if !whole {
			break
		}
		p.rest.Reset()
		p.rest.WriteString(rest)
		p.lines.add(line)
	}
	return p.log.Write(text)
}

// AwaitLine waits until the process has printed a line that fits.
func (p *Process) AwaitLine(ctx context.Context, what string, fits func(line string) bool) error {
	return p.lines.await(ctx, func(lines []string) error {
		for _, line := range lines {
			if fits(line) {
				return nil
			}
		}
		return fmt.Errorf("no line of %d has %s", len(lines), what)
	})
}

// Lines returns what the process has printed so far.
func (p *Process) Lines() []string {
	lines, _ := p.lines.all()
	return lines
}

// Signal sends sig to the process.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Halt asks the process to end, waits, and returns its exit code.
func (p *Process) Halt() (int, error) {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	return p.Ended()
}

// Ended waits for the process to end and returns its exit code; one that has
// not ended in time is killed, which is an error.
func (p *Process) Ended() (int, error) {
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		return 0, errors.Join(fmt.Errorf("process %d did not end within %s", p.cmd.Process.Pid, Patience), p.Crash())
	}
}

// Over says that the program has ended.
func (p *Process) Over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Crash kills the process and waits until it is gone.
func (p *Process) Crash() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}

// CPU returns what the process has computed in its life, once it has ended.
func (p *Process) CPU() time.Duration {
	<-p.ended
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// FreePort returns a loopback port that nobody listens on.
func FreePort() (string, error) {
	n, err := port.Free()
	return strconv.Itoa(n), err
}

// PID is the process' number.
func (p *Process) PID() int { return p.cmd.Process.Pid }
