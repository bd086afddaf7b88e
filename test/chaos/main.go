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
	table := flag.Bool("table", false, "print which drill has which alert fire, and end")
	flag.Parse()
	if *table {
		fmt.Print(alertTable())
		return
	}
	if flag.NArg() != 1 || *rate < 1 {
		fmt.Fprintln(os.Stderr, "usage: chaos [--only DRILLS] [--short] [--rate N] [--report FILE] BINARY")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
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
