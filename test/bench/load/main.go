// Command load puts the built gateway, stock Caddy, nginx and HAProxy under the
// same load on loopback, in turn, and prints what a request costs each of them.
// All of it shares one machine: the ratios are worth more than the figures.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
}

func main() {
	var o options
	flag.DurationVar(&o.each, "for", 3*time.Second, "how long each run takes")
	flag.IntVar(&o.rounds, "rounds", 3, "how many runs each contestant has; they take turns")
	flag.StringVar(&o.only, "only", "", "scenarios by letter, as in A,D; empty: all")
	flag.StringVar(&o.json, "json", "", "write every run to this file")
	flag.StringVar(&o.markdown, "markdown", "", "write the table between the markers in this file")
	flag.StringVar(&o.plot, "plot", "", "draw the medians into this SVG file")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: load [flags] BINARY")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || o.rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	o.binary = flag.Arg(0)
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
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
	fmt.Fprintln(os.Stderr, "setting the stage")
	s, err := newStage(dir, o.binary)
	if err != nil {
		return err
	}
	defer s.close()
	var all []result
	for _, sc := range s.scenarios() {
		if o.only != "" && !strings.Contains(","+o.only+",", ","+sc.letter+",") {
			continue
		}
		results, err := s.play(sc, o)
		if err != nil {
			return fmt.Errorf("%s: %w", sc.letter, err)
		}
		all = append(all, results...)
	}
	if len(all) == 0 {
		return fmt.Errorf("no scenario is called %s", o.only)
	}
	fmt.Print(table(all))
	return errors.Join(writeJSON(o.json, all), writeMarkdown(o.markdown, all), writePlot(o.plot, all))
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
		a, err := s.enter(c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		actors[i] = a
		err = check(a, c, sc)
		for began := time.Now(); err != nil && time.Since(began) < stage.Patience; err = check(a, c, sc) {
			time.Sleep(100 * time.Millisecond) // keys may still be on their way
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if _, err := s.shoot(a, c, sc, time.Second); err != nil {
			return nil, fmt.Errorf("%s: warm up: %w", c.name, err)
		}
	}
	for round := range o.rounds {
		for i, c := range sc.contestants {
			fmt.Fprintf(os.Stderr, "%s %s, %d of %d\n", sc.letter, c.name, round+1, o.rounds)
			shot, err := s.shoot(actors[i], c, sc, o.each)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i].Runs = append(results[i].Runs, shot)
		}
	}
	return results, nil
}
