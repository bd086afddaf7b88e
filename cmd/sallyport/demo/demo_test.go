package demo

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport-gateway/sallyport/caddyfiles"
)

// pasteable is a printed command with the status it promises.
var pasteable = regexp.MustCompile(`^(.+curl .+|curl .+)  # (\d{3})$`)

// paste runs a printed line in bash, comment and all, and checks that it ends
// in the status it promises.
func paste(t *testing.T, line string) {
	t.Helper()
	want := pasteable.FindStringSubmatch(line)[2]
	cmd := exec.CommandContext(t.Context(), "bash", "-c", line)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s\nends with %v, want exit code 0; printed %s", line, err, out)
	}
	if words := strings.Fields(string(out)); len(words) == 0 || words[len(words)-1] != want {
		t.Errorf("%s\nprints\n%s\nwant it to end in %s", line, out, want)
	}
}

// printedLines reads what the demo prints up to the moment it is ready.
func printedLines(p *process) (lines []string) {
	p.until("Ctrl-C")
	for line := range strings.Lines(p.seen.String()) {
		if line = strings.TrimRight(line, "\n"); pasteable.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// address returns the address that stands after word in what p printed.
func address(t *testing.T, p *process, word string) string {
	t.Helper()
	m := regexp.MustCompile(regexp.QuoteMeta(word) + `[^0-9]*(127\.0\.0\.1:\d+)`).FindStringSubmatch(p.seen.String())
	if m == nil {
		t.Fatalf("no address after %q in:\n%s", word, p.seen.String())
	}
	return m[1]
}

func TestDemo(t *testing.T) {
	home := t.TempDir()
	p := sallyport(t, home, "demo")
	lines := printedLines(p)
	var promised []string
	for _, line := range lines {
		promised = append(promised, pasteable.FindStringSubmatch(line)[2])
	}
	if want := []string{"200", "401", "403", "429", "503", "200"}; !slices.Equal(promised, want) {
		t.Fatalf("the demo promises %v, want %v; it printed:\n%s", promised, want, p.seen.String())
	}

	for _, line := range lines {
		paste(t, line)
	}
	// In any order, as long as the upstreams are made to behave after the 503.
	for _, i := range []int{4, 4, 3, 2, 1, 5, 5, 0} {
		paste(t, lines[i])
	}
	for _, kind := range []string{"auth.refused", "limit.refused"} {
		p.until(kind)
	}
	for _, url := range []string{"/metrics", "/health/ready"} {
		paste(t, `curl -s -o /dev/null -w '%{http_code}\n' http://`+address(t, p, "Metrics")+url+"  # 200")
	}

	addresses := []string{
		address(t, p, "ready on"), address(t, p, "key issuer"), address(t, p, "upstreams"), address(t, p, " and "),
		address(t, p, "faults"), address(t, p, "audit sink"), address(t, p, "Metrics"),
	}
	code, printed := p.stop(os.Interrupt)
	if code != 0 || !strings.HasSuffix(printed, "stopped\n") {
		t.Errorf("Ctrl-C: exit code %d, want 0 and a last word; printed:\n%s", code, printed)
	}
	for _, a := range addresses {
		if c, err := net.Dial("tcp", a); err == nil {
			_ = c.Close() // the failure is that it opened
			t.Errorf("%s still answers", a)
		}
	}
	nothingIn(t, home)
}

// nothingIn fails for each file that is left in dir.
func nothingIn(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && path != dir && path != filepath.Join(dir, "tmp") {
			t.Errorf("%s is left behind", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDemoPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)

	home := t.TempDir()
	p := sallyport(t, home, "demo", "--port", port)
	if code, printed := p.wait(); code == 0 || !strings.Contains(printed, "port "+port+" is taken") {
		t.Errorf("--port %s while it is taken: exit code %d, want it to say so; printed:\n%s", port, code, printed)
	}
	nothingIn(t, home)

	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	p = sallyport(t, home, "demo", "--port", port)
	other := sallyport(t, t.TempDir(), "demo") // beside it, with every other port taken
	lines, others := printedLines(p), printedLines(other)
	if got := address(t, p, "ready on"); got != "127.0.0.1:"+port {
		t.Errorf("--port %s: the gateway is on %s", port, got)
	}
	paste(t, lines[0])
	paste(t, others[0])
	for _, p := range []*process{p, other} {
		if code, printed := p.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("SIGTERM: exit code %d, want 0; printed:\n%s", code, printed)
		}
	}
	nothingIn(t, home)
}

func TestDemoRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--port 70000":        "--port takes a number from 1 to 65535, got 70000",
		"--port http":         "invalid argument",
		"--redis localhost":   "--redis takes a URL such as redis://127.0.0.1:6379/0, got 'localhost'",
		"--redis http://host": "redis",
		"now":                 "unknown command",
	} {
		home := t.TempDir()
		p := sallyport(t, home, append([]string{"demo"}, strings.Fields(args)...)...)
		if code, printed := p.wait(); code == 0 || !strings.Contains(printed, want) {
			t.Errorf("demo %s: exit code %d, want another and %q; printed:\n%s", args, code, want, printed)
		}
		nothingIn(t, home)
	}
}

func TestDemoPrintsItsCaddyfile(t *testing.T) {
	file, err := os.ReadFile("../../../caddyfiles/quickstart.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	p := sallyport(t, t.TempDir(), "demo", "--caddyfile")
	if code, printed := p.wait(); code != 0 || printed != string(file) {
		t.Errorf("exit code %d, printed:\n%s\nwant caddyfiles/quickstart.Caddyfile", code, printed)
	}
	if strings.Count(caddyfiles.Quickstart, "# "+redisLine) != 1 {
		t.Errorf("--redis switches on the line '# %s', which does not stand once in:\n%s", redisLine, caddyfiles.Quickstart)
	}
}

func TestListenTakesAnotherPortWhenBusy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	got, err := freePort(port)
	if err != nil || got == port {
		t.Errorf("freePort(%d) = %d, %v; want another port", port, got, err)
	}
	if _, err := sitePort(port); err == nil || !strings.Contains(err.Error(), "is taken") {
		t.Errorf("sitePort(%d): %v, want it to say that the port is taken", port, err)
	}
}
