// Command load puts the built gateway, stock Caddy, nginx and HAProxy under the
// same load on loopback, in turn, and prints what a request costs each of them.
// All of it shares one machine: the ratios are worth more than the figures.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

type options struct {
	binary   string
	each     time.Duration
	rounds   int
	only     string
	json     string
	markdown string
	plot     string
	profiles string
	beside   string
	peers    []contestant
}

func main() {
	var o options
	flag.DurationVar(&o.each, "for", time.Second, "how long each run takes")
	flag.IntVar(&o.rounds, "rounds", 3, "how many runs each contestant has; they take turns")
	flag.StringVar(&o.only, "only", "", "scenarios by letter, as in A,D; L is the fixed rate of arrivals, R the reloads, growth the curves; empty: all")
	flag.StringVar(&o.json, "json", "", "write everything to this file")
	flag.StringVar(&o.markdown, "markdown", "", "write the tables between the markers in this file")
	flag.StringVar(&o.plot, "plot", "", "draw the medians into this SVG file, and the curves into another beside it")
	flag.StringVar(&o.profiles, "profiles", "", "write a CPU profile of the gateway in each scenario into this directory")
	flag.StringVar(&o.beside, "beside", "", "another build of the gateway, which takes turns with the first in every scenario")
	flag.Func("peer", "NAME=COMMAND: another bare proxy for A, which listens on 127.0.0.1:$PORT and forwards to $UPSTREAM; may stand several times", o.peer)
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: load [flags] BINARY")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || o.rounds < 1 || o.each < time.Second {
		flag.Usage()
		os.Exit(2)
	}
	o.binary = flag.Arg(0)
	if err := errors.Join(standAside(), run(o)); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

const coresKey = "SALLYPORT_LOAD_CORES"

// cores is how many cores the machine has for all this.
func cores() int {
	if n, err := strconv.Atoi(os.Getenv(coresKey)); err == nil {
		return n
	}
	return runtime.NumCPU()
}

// standAside starts this program again on the core that is not the contestant's.
func standAside() error {
	if os.Getenv(coresKey) != "" || runtime.NumCPU() < 2 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return err
	}
	env := append(os.Environ(), coresKey+"="+strconv.Itoa(runtime.NumCPU()))
	return syscall.Exec(taskset, append([]string{"taskset", "--cpu-list", "1", self}, os.Args[1:]...), env)
}

// report is all that was measured.
type report struct {
	Results []result
	Timings []timing
	Reloads []timing
	Points  []point
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "sallyport-load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if o.beside != "" {
		if o.beside, err = filepath.Abs(o.beside); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "setting the stage")
	s, err := newStage(dir, o.binary)
	if err != nil {
		return err
	}
	defer s.close()
	var all report
	var failed error
	for _, sc := range s.scenarios() {
		if o.wants(sc.letter) {
			sc.contestants = beside(sc.contestants, o.beside)
			if sc.letter == "A" {
				sc.contestants = append(sc.contestants, o.peers...)
			}
			results, err := s.play(sc, o)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", sc.letter, err))
				continue // the rest is worth having
			}
			all.Results = append(all.Results, results...)
		}
	}
	if o.wants("L") {
		all.Timings, err = s.atHalfPeak(peak(all.Results), o)
		failed = errors.Join(failed, err)
	}
	if o.wants("R") {
		all.Reloads, err = s.reloads(o)
		failed = errors.Join(failed, err)
	}
	if o.wants("growth") {
		all.Points, err = s.grow(o)
		failed = errors.Join(failed, err)
	}
	if len(all.Results)+len(all.Timings)+len(all.Reloads)+len(all.Points) == 0 {
		return errors.Join(failed, fmt.Errorf("nothing was measured of %q", o.only))
	}
	fmt.Print(all.text())
	return errors.Join(failed, writeJSON(o.json, all), all.writeMarkdown(o.markdown), writePlot(o.plot, all.Results), writeCurves(o.plot, all.Points))
}

func (o *options) peer(text string) error {
	name, command, ok := strings.Cut(text, "=")
	if !ok || name == "" || command == "" {
		return errors.New("want NAME=COMMAND")
	}
	o.peers = append(o.peers, contestant{name: name, kind: "peer", config: command})
	return nil
}

// beside puts another build of the gateway next to each that is one.
func beside(all []contestant, binary string) (both []contestant) {
	for _, c := range all {
		both = append(both, c)
		if binary != "" && c.kind == "sallyport" {
			c.name, c.binary = c.name+", "+filepath.Base(binary), binary
			both = append(both, c)
		}
	}
	return both
}

func (o options) wants(letter string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), letter)
}

// peak is what the whole chain reached; where it was not measured, a guess that
// every machine reaches.
func peak(all []result) float64 {
	for _, r := range all {
		if r.Scenario == "D" && r.Who == "Sallyport, returning tokens" {
			rates := make([]float64, 0, len(r.Runs))
			for _, s := range r.Runs {
				rates = append(rates, s.Rate)
			}
			slices.Sort(rates)
			return rates[len(rates)/2]
		}
	}
	return 4000
}

// ready starts a contestant, waits until it does what the scenario is about, and
// warms it up.
func (s *set) ready(c contestant, sc scenario) (*actor, error) {
	a, err := s.enter(c, sc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if sc.drive == "" {
		err = check(a, c, sc)
		for began := time.Now(); err != nil && time.Since(began) < stage.Patience; err = check(a, c, sc) {
			time.Sleep(100 * time.Millisecond) // keys may still be on their way
		}
	}
	if err == nil {
		_, err = s.shoot(a, c, sc, sc.least())
	}
	if err != nil {
		a.halt()
		return nil, fmt.Errorf("%s: warm up: %w", c.name, err)
	}
	return a, nil
}

// least is how long a run must take.
func (sc scenario) least() time.Duration {
	if sc.slow {
		return 2 * time.Second
	}
	return time.Second
}

// play lets the contestants of one scenario take turns.
func (s *set) play(sc scenario, o options) ([]result, error) {
	results := make([]result, len(sc.contestants))
	actors := make([]*actor, len(sc.contestants))
	defer func() {
		for _, a := range actors {
			if a != nil {
				a.halt()
			}
		}
	}()
	for i, c := range sc.contestants {
		results[i] = result{Scenario: sc.letter, What: sc.what, Who: c.name}
		a, err := s.ready(c, sc)
		if err != nil {
			return nil, err
		}
		actors[i] = a
		if sc.idle > 0 {
			before := a.memory()
			crowd, err := gather(a, sc.idle)
			defer crowd.leave()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i].Idle = (a.memory() - before) / int64(sc.idle)
			results[i].Who += fmt.Sprintf(" (%.1f KiB a connection)", float64(results[i].Idle)/1024)
			if results[i].Runs, err = s.runs(a, c, sc, o); err != nil {
				return nil, err
			}
			crowd.leave()
		}
	}
	if sc.idle > 0 {
		return results, nil
	}
	for round := range o.rounds {
		for i, c := range sc.contestants {
			fmt.Fprintf(os.Stderr, "%s %s, %d of %d\n", sc.letter, c.name, round+1, o.rounds)
			shot, err := s.shoot(actors[i], c, sc, max(o.each, sc.least()))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i].Runs = append(results[i].Runs, shot)
		}
	}
	for i, c := range sc.contestants {
		if err := s.profile(actors[i], c, sc, o.profiles); err != nil {
			return nil, fmt.Errorf("%s: profile: %w", c.name, err)
		}
	}
	return results, nil
}

// runs are all the runs of one contestant, one after another.
func (s *set) runs(a *actor, c contestant, sc scenario, o options) (all []shot, err error) {
	for round := range o.rounds {
		fmt.Fprintf(os.Stderr, "%s %s, %d of %d\n", sc.letter, c.name, round+1, o.rounds)
		shot, err := s.shoot(a, c, sc, o.each)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, shot)
	}
	return all, nil
}
