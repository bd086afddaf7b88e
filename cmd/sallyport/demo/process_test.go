package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/sallyport-gateway/sallyport/modules/standard"
)

// asProgram makes the test binary be sallyport, for tests that need it as a
// process of its own.
const asProgram = "SALLYPORT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}

// process is sallyport running a subcommand.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner // of what it prints on both outputs
	seen  strings.Builder
}

// sallyport starts the program with args in an environment of its own: home
// is where it could write to, if it wrote where it should not.
func sallyport(t *testing.T, home string, args ...string) *process {
	t.Helper()
	return sallyportWith(t, home, nil, args...)
}

func sallyportWith(t *testing.T, home string, env []string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = []string{asProgram + "=1", "HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home + "/tmp", "SHELL=/bin/bash"}
	cmd.Env = append(cmd.Env, env...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := os.MkdirAll(home+"/tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, lines: bufio.NewScanner(r)}
	p.lines.Buffer(nil, 1<<20)
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // the test failed before it stopped it
			_ = cmd.Wait()
		}
		_ = r.Close()
	})
	return p
}

// until reads what the process prints up to a line that contains text.
func (p *process) until(text string) string {
	p.t.Helper()
	for p.lines.Scan() {
		line := p.lines.Text()
		fmt.Fprintln(&p.seen, line)
		if strings.Contains(line, text) {
			return line
		}
	}
	p.t.Fatalf("%v never printed %q; it printed:\n%s", p.cmd.Args[1:], text, p.seen.String())
	return ""
}

// stop sends sig and returns the exit code and all that was printed.
func (p *process) stop(sig os.Signal) (code int, printed string) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) wait() (code int, printed string) {
	p.t.Helper()
	for p.lines.Scan() {
		fmt.Fprintln(&p.seen, p.lines.Text())
	}
	_ = p.cmd.Wait() // the exit code is what the caller judges
	return p.cmd.ProcessState.ExitCode(), p.seen.String()
}

func TestUpstreamCommand(t *testing.T) {
	p := sallyport(t, t.TempDir(), "upstream", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--name", "orders-1", "--fault", "status=503")
	url := "http://" + last(p.until("orders-1 listens on "))
	control := last(p.until("faults: "))

	status := func(method, url string) int {
		req, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client(t, false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	if got := status("GET", url); got != 503 {
		t.Errorf("with --fault status=503: %d", got)
	}
	if got := status("DELETE", control); got != 200 {
		t.Errorf("DELETE %s: %d", control, got)
	}
	if got := status("GET", url); got != 200 {
		t.Errorf("after the fault is taken away: %d", got)
	}
	if code, printed := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d, want 0; printed:\n%s", code, printed)
	}
}

func TestUpstreamCommandRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--fault status=9":     "--fault: status takes a code from 200 to 599, got '9'",
		"--listen nowhere":     "missing port in address",
		"--control 1.2.3.4:-1": "invalid port",
		"surplus":              "unknown command",
	} {
		p := sallyport(t, t.TempDir(), append([]string{"upstream", "--listen", "127.0.0.1:0"}, strings.Fields(args)...)...)
		if code, printed := p.wait(); code == 0 || !strings.Contains(printed, want) {
			t.Errorf("upstream %s: exit code %d, want another and %q; printed:\n%s", args, code, want, printed)
		}
	}
}

func last(line string) string { return line[strings.LastIndexByte(line, ' ')+1:] }
