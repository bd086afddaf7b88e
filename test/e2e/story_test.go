// Package e2e plays the stories of this folder: each is one page that starts a
// cast on loopback, runs the built gateway with a Caddyfile of its own, sends
// requests and says what must come of them. README.md tells how to write one.
package e2e

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-gateway/sallyport/test/stage"

	// Go takes a passed test for passed until what it imports changes: these
	// change whenever the gateway does.
	_ "github.com/sallyport-gateway/sallyport/modules/standard"
)

var binary string // path of the gateway under test

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sallyport-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = stage.Binary(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// TestStories plays every story in this folder.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                ".",
		Setup:              setup,
		Cmds:               commands(),
		RequireUniqueNames: true,
	})
}

// usage marks a line that is written wrong, which `!` does not turn into a
// success.
type usage string

func (u usage) Error() string { return "usage: " + string(u) }

// commands wraps each command of a story for the script engine.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*story, []string) error{
		"admin": (*story).admin, "behave": (*story).behave, "collector": (*story).collector,
		"crash": (*story).crash, "ended": (*story).ended, "expect": (*story).expect, "forget": (*story).forget,
		"freeze": signalling("freeze", syscall.SIGSTOP), "gateway": (*story).gateway, "halt": (*story).halt,
		"issuer": (*story).issuer, "load": (*story).load, "log": (*story).log,
		"metric": (*story).metric, "patch": (*story).patch, "port": (*story).port,
		"redis": (*story).redis, "reload": (*story).reload, "request": (*story).request,
		"revive": (*story).revive, "reread": signalling("reread", syscall.SIGUSR1), "rotate": (*story).rotate, "sallyport": (*story).sallyport,
		"saw": (*story).saw, "sink": (*story).sink, "terminate": signalling("terminate", syscall.SIGTERM),
		"thaw": signalling("thaw", syscall.SIGCONT), "token": (*story).token, "traffic": (*story).traffic,
		"until": (*story).until, "upstream": (*story).upstream,
	}
	wrapped := make(map[string]func(*testscript.TestScript, bool, []string), len(all))
	for name, command := range all {
		wrapped[name] = func(ts *testscript.TestScript, not bool, args []string) {
			s := ts.Value(storyKey{}).(*story)
			s.ts, s.not = ts, not
			err := command(s, args)
			_, wrong := errors.AsType[usage](err)
			switch {
			case wrong:
				ts.Fatalf("%v", err)
			case not && err == nil:
				ts.Fatalf("this holds, and the story says it must not")
			case not:
				ts.Logf("as it must be: %v", err)
			case err != nil:
				ts.Fatalf("%v", err)
			}
		}
	}
	return wrapped
}

type storyKey struct{}

// story is what one story has brought onto the stage, and its last answer.
type story struct {
	ts   *testscript.TestScript
	not  bool // the current line begins with `!`
	work string

	processes map[string]*actor
	gateways  []string // names of actors that are gateways, in order of appearance
	servers   map[string]*stage.Server
	issuers   map[string]*stage.Issuer
	tokens    map[string]string
	variables map[string]bool // names of what gateways find in their environment

	http, h2c *http.Client
	last      answer
	tally     map[string]int
	load1     *traffic
}

// actor is a process together with how to start it again.
type actor struct {
	*stage.Process
	start func() (*stage.Process, error)
}

func setup(env *testscript.Env) error {
	s := &story{
		work:      env.WorkDir,
		processes: make(map[string]*actor),
		servers:   make(map[string]*stage.Server),
		issuers:   make(map[string]*stage.Issuer),
		tokens:    make(map[string]string),
		variables: map[string]bool{"PATH": true, "PORT": true},
		http:      client(false),
		h2c:       client(true),
	}
	env.Values[storyKey{}] = s
	if err := s.settings(strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")); err != nil {
		return err
	}
	port, err1 := stage.FreePort()
	admin, err2 := stage.FreePort()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	env.Setenv("PORT", port)
	env.Setenv("ADMIN", "127.0.0.1:"+admin)
	env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	t, _ := env.T().(interface {
		Failed() bool
		Errorf(format string, args ...any)
	})
	env.Defer(func() {
		s.end()
		for _, name := range s.gateways {
			text := s.read(name)
			for _, trouble := range []string{"WARNING: DATA RACE", "panic:", "fatal error:", `"level":"panic"`} {
				if _, after, found := strings.Cut(text, trouble); found {
					t.Errorf("the log of %s holds %s%s", name, trouble, head(after, 60))
				}
			}
			for token, raw := range s.tokens {
				for part := range strings.SplitSeq(raw, ".") {
					if strings.Contains(text, part) {
						t.Errorf("the log of %s tells a part of token %s: %s", name, token, part)
					}
				}
			}
			if t.Failed() {
				t.Errorf("the log of %s ends with:\n%s", name, tail(text, 60))
			}
		}
	})
	return nil
}

var envLine = regexp.MustCompile(`(?m)^env (.*)$`)

// settings notes the variables that the story sets with `env`, which the
// script engine keeps to itself.
func (s *story) settings(title string) error {
	page, err := os.ReadFile(title + ".txtar")
	if err != nil {
		return err
	}
	for _, line := range envLine.FindAllStringSubmatch(string(page), -1) {
		for _, word := range strings.Fields(line[1]) {
			variable, _, _ := strings.Cut(word, "=")
			s.variables[variable] = true
		}
	}
	return nil
}

// end stops whatever the story left running.
func (s *story) end() {
	if s.load1 != nil {
		s.load1.stop()
	}
	s.http.CloseIdleConnections()
	s.h2c.CloseIdleConnections()
	var wg sync.WaitGroup
	for _, p := range s.processes {
		wg.Go(func() { p.Crash() }) //nolint:errcheck // it may have ended before
	}
	for _, server := range s.servers {
		server.Halt() //nolint:errcheck // likewise
	}
	wg.Wait()
}

func (s *story) logPath(name string) string { return filepath.Join(s.work, name+".log") }

func (s *story) read(name string) string {
	text, err := os.ReadFile(s.logPath(name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func head(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func client(h2c bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2c)
	protocols.SetUnencryptedHTTP2(h2c)
	return &http.Client{
		Transport: &http.Transport{
			Protocols: protocols, DisableCompression: true, MaxIdleConnsPerHost: 64,
		},
		Timeout:       stage.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// name returns the first argument, or other if there is none.
func name(args []string, other string) string {
	return cmp.Or(append(args, other)[0], other)
}

// poll asks holds every now and then until it says nil or patience ends.
func poll(patience time.Duration, holds func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("%w (waited for %s)", err, patience)
		}
	}
}
