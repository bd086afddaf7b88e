// Command chaos starts two gateways behind a balancer with everything that
// they need, breaks one thing after the other while requests come in at a
// fixed rate, and holds what callers, sinks and alerts saw against the
// objectives.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("only", "", "some drills, by comma: "+strings.Join(drillNames(), ", "))
	short := flag.Bool("short", false, "the form that CI runs: no step that waits for an alert of hours")
	rate := flag.Int("rate", 60, "requests a second")
	report := flag.String("report", "", "write the report into this file")
	scale := flag.Bool("scale", false, "measure what a request, a key, a route and a connection cost, and predict how many gateways a load needs")
	var d demand
	flag.IntVar(&d.keys, "keys", 1000, "with --scale: callers")
	flag.IntVar(&d.routes, "routes", 10, "with --scale: routes of the configuration")
	flag.IntVar(&d.connections, "connections", 1000, "with --scale: open connections")
	flag.Float64Var(&d.cpu, "cpu", 0.5, "with --scale: cores of a pod")
	flag.Float64Var(&d.memory, "memory", 512, "with --scale: MiB of a pod")
	flag.Float64Var(&d.price, "price", 0.04, "with --scale: price of a core for an hour")
	table := flag.Bool("table", false, "print which drill has which alert fire, and end")
	flag.Parse()
	if *table {
		fmt.Print(alertTable())
		return
	}
	if flag.NArg() != 1 || *rate < 1 {
		fmt.Fprintln(os.Stderr, "usage: chaos [--only DRILLS] [--short] [--rate N] [--report FILE] [--scale ...] BINARY; -h explains")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if *scale {
		var own []demand
		// Without a rate nobody asks for a line of his own.
		flag.Visit(func(f *flag.Flag) {
			if f.Name == "rate" {
				d.rate = *rate
				own = []demand{d}
			}
		})
		if err := runScale(ctx, flag.Arg(0), *report, own); err != nil {
			fmt.Fprintln(os.Stderr, "scale:", err)
			os.Exit(1)
		}
		return
	}
	if err := drill(ctx, flag.Arg(0), *only, *report, options{short: *short, rate: *rate, root: "."}); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// drill runs the chosen drills and writes the report.
func drill(ctx context.Context, binary, only, report string, o options) error {
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "sallyport-chaos-"); err != nil {
		return err
	}
	if o.binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	var verdicts []*verdict
	missed := 0
	region := slices.ContainsFunc(chosen, func(d theme) bool { return d.steps == nil })
	if len(chosen) > 1 || !region {
		v, err := run(ctx, chosen, o, os.Stdout)
		if err != nil {
			return fmt.Errorf("%w (logs are in %s)", err, o.dir)
		}
		fmt.Print(v)
		missed += len(v.failures())
		verdicts = append(verdicts, v)
	}
	if region {
		apart := o
		apart.dir = filepath.Join(o.dir, "regions")
		if err := os.Mkdir(apart.dir, 0o700); err != nil {
			return err
		}
		v, err := failover(ctx, apart, os.Stdout)
		if err != nil {
			return fmt.Errorf("%w (logs are in %s)", err, apart.dir)
		}
		fmt.Print(v)
		missed += len(v.failures())
		verdicts = append(verdicts, v)
	}
	if report != "" {
		if err := os.WriteFile(report, []byte(reportOf(verdicts)), 0o644); err != nil {
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d objectives were missed (logs are in %s)", missed, o.dir)
	}
	return os.RemoveAll(o.dir)
}

// runScale measures and writes the page.
func runScale(ctx context.Context, binary, report string, own []demand) (err error) {
	o := options{root: ".", rate: 60}
	if o.dir, err = os.MkdirTemp("", "sallyport-scale-"); err != nil {
		return err
	}
	if o.binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	page, err := capacity(ctx, o, 6*time.Second, own, os.Stdout)
	if err != nil {
		return err
	}
	fmt.Print("\n" + page)
	if report != "" {
		if err := os.WriteFile(report, []byte(page), 0o644); err != nil {
			return err
		}
	}
	return os.RemoveAll(o.dir)
}
