package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// callers is the number of connections; each asks again as soon as it is answered.
const callers = 64

// answer is the length of the upstream's answers.
const answer = 130

// tick is the unit of a process's CPU time in /proc, on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// actor is a running program that listens on a port.
type actor struct {
	*stage.Process
	pid, port int
}

// start runs argv on one core: 0 is for contestants, 1 for all that is around
// them. A machine with one core has them share it.
func (s *set) start(name string, core, port int, argv, env []string) (*actor, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("%s is not installed; `make bench` installs it where apt-get is there", argv[0])
	}
	cmd := pinned(core, path, argv[1:]...)
	if cmd.Env = env; env == nil {
		cmd.Env = os.Environ()
	}
	p, err := stage.Launch(cmd, filepath.Join(s.dir, strconv.Itoa(port)+".log"))
	if err != nil {
		return nil, err
	}
	if err := awaitPort(port); err != nil {
		lines := strings.Join(p.Lines(), "\n")
		return nil, errors.Join(fmt.Errorf("%s does not listen: %w\n%s", name, err, lines), p.Crash())
	}
	return &actor{Process: p, pid: cmd.Process.Pid, port: port}, nil
}

func pinned(core int, path string, args ...string) *exec.Cmd {
	core = min(core, runtime.NumCPU()-1)
	return exec.Command("taskset", append([]string{"--cpu-list", strconv.Itoa(core), path}, args...)...)
}

func (a *actor) halt() { _, _ = a.Halt() }

// cpu is what the program has computed so far.
func (a *actor) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold blanks.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory is the program's resident set in bytes.
func (a *actor) memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", a.pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// shot is what one run reached.
type shot struct {
	CPU      float64 `json:"cpu_us"` // a request
	Rate     float64 `json:"requests_per_second"`
	P50, P99 string
	Memory   int64 `json:"rss_bytes"`
}

var (
	requests = regexp.MustCompile(`(\d+) requests in`)
	rate     = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	p50      = regexp.MustCompile(`(?m)^\s+50%\s+(\S+)`)
	p99      = regexp.MustCompile(`(?m)^\s+99%\s+(\S+)`)
	failed   = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses: (\d+)|Socket errors.*)$`)
)

// script has each request carry the next of the tokens.
const script = `local all, next = {}, 0
function init()
	for token in io.lines(%q) do
		all[#all + 1] = wrk.format("GET", "/", {["Authorization"] = "Bearer " .. token})
	end
end
function request()
	next = next %% #all + 1
	return all[next]
end
`

// check asks once and sees to it that the answer is what the scenario is about.
func check(a *actor, c contestant, sc scenario) error {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", a.port), nil)
	if err != nil {
		return err
	}
	if name, value, ok := strings.Cut(sc.header, ": "); ok {
		req.Header.Set(name, value)
	}
	if sc.tokens != "" {
		text, err := os.ReadFile(sc.tokens)
		if err != nil {
			return err
		}
		token, _, _ := strings.Cut(string(text), "\n")
		req.Header.Set("Authorization", "Bearer "+token)
	}
	var res *http.Response
	for range 2 { // the first may be what uses a limit up
		if res, err = http.DefaultClient.Do(req); err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			return err
		}
		if res.StatusCode == http.StatusOK && len(body) != answer {
			return fmt.Errorf("the answer has %d bytes, want %d", len(body), answer)
		}
	}
	if refused := res.StatusCode >= 400; refused != (sc.refused && c.kind == "sallyport") {
		return fmt.Errorf("answered with %s: %s", res.Status, strings.Join(a.Lines(), "\n"))
	}
	return nil
}

// shoot loads one contestant for a time.
func (s *set) shoot(a *actor, c contestant, sc scenario, each time.Duration) (shot, error) {
	args := []string{"--threads", "1", "--connections", strconv.Itoa(callers), "--duration", strconv.Itoa(max(1, int(each.Seconds()))) + "s", "--latency"}
	if sc.tokens != "" {
		file := filepath.Join(s.dir, "tokens.lua")
		if err := os.WriteFile(file, fmt.Appendf(nil, script, sc.tokens), 0o600); err != nil {
			return shot{}, err
		}
		args = append(args, "--script", file)
	}
	if sc.header != "" {
		args = append(args, "--header", sc.header)
	}
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return shot{}, errors.New("wrk is not installed; `make bench` installs it where apt-get is there")
	}
	before, err := a.cpu()
	if err != nil {
		return shot{}, err
	}
	out, err := pinned(1, wrk, append(args, fmt.Sprintf("http://127.0.0.1:%d/", a.port))...).CombinedOutput()
	if err != nil {
		return shot{}, fmt.Errorf("%w\n%s", err, out)
	}
	after, err := a.cpu()
	if err != nil {
		return shot{}, err
	}
	text := func(re *regexp.Regexp) string {
		if m := re.FindSubmatch(out); m != nil {
			return string(m[1])
		}
		return ""
	}
	n, err := strconv.Atoi(text(requests))
	if err != nil || n == 0 {
		return shot{}, fmt.Errorf("no requests:\n%s", out)
	}
	if bad := failed.FindSubmatch(out); bad != nil && !(sc.refused && c.kind == "sallyport" && string(bad[2]) != "") {
		return shot{}, fmt.Errorf("not every request was answered with 200: %s", bad[1])
	} else if bad == nil && sc.refused && c.kind == "sallyport" {
		return shot{}, fmt.Errorf("requests that were to be refused were answered:\n%s", out)
	}
	per, err := strconv.ParseFloat(text(rate), 64)
	return shot{CPU: float64((after - before).Nanoseconds()) / 1000 / float64(n), Rate: per, P50: text(p50), P99: text(p99), Memory: a.memory()}, err
}
