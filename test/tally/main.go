// Command tally runs `go test` and says at the end, in one line, how many tests
// passed, failed and were skipped. A skipped test is printed with its reason;
// one that gives no reason fails the run, for a silent skip looks like a pass.
//
// Its arguments are those of `go test`; `--` begins another run of it, and
// NAME=VALUE words at the start of a run are its environment. What a test logs
// behind `figure: ` is printed also where it passes:
//
//	tally -race ./... -- SALLYPORT=bin/sallyport ./test/e2e
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	t := &tally{out: os.Stdout, output: make(map[string][]string)}
	for _, args := range split(os.Args[1:], "--") {
		if err := t.run(args); err != nil {
			t.failed++
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if !t.close() {
		os.Exit(1)
	}
}

// split cuts args at each word that equals sep.
func split(args []string, sep string) (parts [][]string) {
	for {
		i := slices.Index(args, sep)
		if i < 0 {
			return append(parts, args)
		}
		parts, args = append(parts, args[:i]), args[i+1:]
	}
}

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output, ImportPath, FailedBuild string
}

type tally struct {
	out                     io.Writer
	passed, failed, skipped int
	// output is what each running test has printed, and each package around
	// its tests.
	output map[string][]string
	// skips and failures are told again at the end, where they are read.
	skips, failures []string
}

func (t *tally) run(args []string) error {
	var env []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	cmd := exec.Command("go", slices.Concat([]string{"test"}, args, []string{"-json"})...)
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	before := t.failed
	if err := t.read(stdout); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	if err := cmd.Wait(); err != nil && t.failed == before {
		return fmt.Errorf("go test %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				t.out.Write(line) //nolint:errcheck // there is nobody else to tell
			} else {
				t.hear(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) hear(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		t.output[key] = append(t.output[key], e.Output)
	case "build-output":
		fmt.Fprint(t.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.ended(e)
		} else {
			t.judge(e)
		}
		delete(t.output, key)
	}
}

// judge counts a test. A test with subtests counts too, as in `go test -v`.
func (t *tally) judge(e event) {
	name := e.Package + "." + e.Test
	text := t.output[e.Package+" "+e.Test]
	switch e.Action {
	case "pass":
		t.passed++
		for _, line := range text {
			if _, figure, logged := strings.Cut(line, ".go:"); logged && strings.Contains(figure, ": figure: ") {
				fmt.Fprintf(t.out, "%s: %s", e.Test, figure[strings.Index(figure, "figure: ")+len("figure: "):])
			}
		}
	case "skip":
		t.skipped++
		if why := reason(text); why != "" {
			t.skips = append(t.skips, name+": "+why)
			return
		}
		t.fail(name + ": skipped without a reason")
	case "fail":
		t.fail(name)
		fmt.Fprint(t.out, strings.Join(text, ""))
	}
}

func (t *tally) fail(what string) {
	t.failed++
	t.failures = append(t.failures, what)
}

// ended prints a package's own line. All that it printed besides is shown only
// if it failed outside of its tests: a panic, a race, a broken TestMain.
func (t *tally) ended(e event) {
	text := t.output[e.Package+" "]
	if e.Action != "fail" {
		for _, line := range text {
			if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "? ") || strings.Contains(line, "[no test") {
				fmt.Fprint(t.out, line)
			}
		}
		return
	}
	// What was running when the package died has printed, and never ended.
	unfinished := false
	for key, lines := range t.output {
		if test, ok := strings.CutPrefix(key, e.Package+" "); ok && test != "" {
			unfinished = true
			t.fail(e.Package + "." + test + ": did not end")
			fmt.Fprint(t.out, strings.Join(lines, ""))
			delete(t.output, key)
		}
	}
	known := slices.ContainsFunc(t.failures, func(f string) bool { return strings.HasPrefix(f, e.Package+".") })
	if e.FailedBuild != "" || unfinished || !known {
		t.fail(e.Package)
	}
	fmt.Fprint(t.out, strings.Join(text, ""))
}

// reason finds what a test said when it was skipped: the line before go test's
// own `--- SKIP`, or after it, indented and with its place in the code.
func reason(text []string) string {
	for _, line := range text {
		place, why, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if ok && strings.Contains(place, ".go:") && strings.TrimSpace(why) != "" {
			return strings.TrimSpace(why)
		}
	}
	return ""
}

// close prints the verdict and says whether it is good.
func (t *tally) close() bool {
	if t.passed+t.failed == 0 {
		t.fail("no test ran")
	}
	for _, s := range t.skips {
		fmt.Fprintln(t.out, "skipped:", s)
	}
	for _, f := range t.failures {
		fmt.Fprintln(t.out, "failed:", f)
	}
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	return t.failed == 0
}
