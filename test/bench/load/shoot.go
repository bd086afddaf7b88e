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
	metrics   int    // the port of its metrics; zero: it has none
	admin     string // the path of its admin socket
	client    *http.Client
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
	if err := awaitPort(p, port); err != nil {
		lines := strings.Join(p.Lines(), "\n")
		return nil, errors.Join(fmt.Errorf("%s does not listen: %w\n%s", name, err, lines), p.Crash())
	}
	return &actor{Process: p, pid: cmd.Process.Pid, port: port, client: s.client}, nil
}

func pinned(core int, path string, args ...string) *exec.Cmd {
	core = min(core, cores()-1)
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

// allocated is how often the program has asked for memory so far; negative where
// it does not tell.
func (a *actor) allocated() (int64, error) {
	if a.metrics == 0 {
		return -1, nil
	}
	res, err := a.client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", a.metrics))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	m := mallocs.FindSubmatch(text)
	if m == nil {
		return 0, errors.New("the metrics do not tell go_memstats_mallocs_total")
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	return int64(n), err
}

var mallocs = regexp.MustCompile(`(?m)^go_memstats_mallocs_total (\S+)$`)

// shot is what one run reached.
type shot struct {
	CPU      float64 `json:"cpu_us"`                // a request
	Allocs   float64 `json:"allocations,omitempty"` // a request; zero: not known
	Rate     float64 `json:"requests_per_second"`
	P50, P99 string  `json:",omitempty"`
	Memory   int64   `json:"rss_bytes"`
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
		all[#all + 1] = wrk.format("GET", wrk.path, {["Authorization"] = "Bearer " .. token})
	end
end
function request()
	next = next %% #all + 1
	return all[next]
end
`

// check asks once and sees to it that the answer is what the scenario is about.
func check(a *actor, c contestant, sc scenario) error {
	req, err := http.NewRequest(http.MethodGet, a.url(c, sc), nil)
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
		if res, err = a.client.Do(req); err != nil {
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

func (a *actor) url(c contestant, sc scenario) string {
	scheme, path := "http", c.path
	if sc.tls {
		scheme = "https"
	}
	if path == "" {
		path = "/"
	}
	return fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, a.port, path)
}

// shoot loads one contestant for a time and reads what that cost it.
func (s *set) shoot(a *actor, c contestant, sc scenario, each time.Duration) (shot, error) {
	before, err := a.cpu()
	if err != nil {
		return shot{}, err
	}
	had, err := a.allocated()
	if err != nil {
		return shot{}, err
	}
	result, n, err := s.load(a, c, sc, each)
	if err != nil {
		return shot{}, err
	}
	after, err := a.cpu()
	if err != nil {
		return shot{}, err
	}
	has, err := a.allocated()
	if has >= 0 {
		result.Allocs = float64(has-had) / float64(n)
	}
	result.CPU, result.Memory = float64((after-before).Nanoseconds())/1000/float64(n), a.memory()
	return result, err
}

func (s *set) load(a *actor, c contestant, sc scenario, each time.Duration) (result shot, n int64, err error) {
	if sc.drive == "" {
		return s.wrk(a, c, sc, each)
	}
	n, took, err := drive(sc.drive, fmt.Sprintf("127.0.0.1:%d", a.port), each)
	if err == nil && n == 0 {
		err = errors.New("no calls")
	}
	return shot{Rate: float64(n) / took.Seconds()}, n, err
}

func (s *set) wrk(a *actor, c contestant, sc scenario, each time.Duration) (shot, int64, error) {
	args := []string{"--threads", "1", "--connections", strconv.Itoa(callers), "--duration", strconv.Itoa(max(1, int(each.Seconds()))) + "s", "--latency", "--timeout", "30s"}
	if sc.tokens != "" {
		file := filepath.Join(s.dir, "tokens.lua")
		if err := os.WriteFile(file, fmt.Appendf(nil, script, sc.tokens), 0o600); err != nil {
			return shot{}, 0, err
		}
		args = append(args, "--script", file)
	}
	if sc.script != "" {
		args = append(args, "--script", sc.script)
	} else if sc.header != "" {
		args = append(args, "--header", sc.header)
	}
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return shot{}, 0, errors.New("wrk is not installed; `make bench` installs it where apt-get is there")
	}
	out, err := pinned(1, wrk, append(args, a.url(c, sc))...).CombinedOutput()
	if err != nil {
		return shot{}, 0, fmt.Errorf("%w\n%s", err, out)
	}
	text := func(re *regexp.Regexp) string {
		if m := re.FindSubmatch(out); m != nil {
			return string(m[1])
		}
		return ""
	}
	n, err := strconv.ParseInt(text(requests), 10, 64)
	if err != nil || n == 0 {
		return shot{}, 0, fmt.Errorf("no requests:\n%s", out)
	}
	if bad := failed.FindSubmatch(out); bad != nil && !(sc.refused && c.kind == "sallyport" && string(bad[2]) != "") {
		return shot{}, 0, fmt.Errorf("not every request was answered with 200: %s", bad[1])
	} else if bad == nil && sc.refused && c.kind == "sallyport" {
		return shot{}, 0, fmt.Errorf("requests that were to be refused were answered:\n%s", out)
	}
	per, err := strconv.ParseFloat(text(rate), 64)
	return shot{Rate: per, P50: text(p50), P99: text(p99)}, n, err
}
