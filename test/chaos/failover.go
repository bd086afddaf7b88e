package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const runbookFile = "docs/runbooks/region-failover.md"

var fenced = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// readRunbook returns the commands of the page, by its headings.
func readRunbook(root string) (map[string][]string, error) {
	text, err := os.ReadFile(filepath.Join(root, runbookFile))
	if err != nil {
		return nil, err
	}
	parts := make(map[string][]string)
	for part := range strings.SplitSeq(string(text), "\n## ") {
		heading, rest, _ := strings.Cut(part, "\n")
		for _, m := range fenced.FindAllStringSubmatch(rest, -1) {
			parts[heading] = append(parts[heading], strings.TrimSpace(m[1]))
		}
	}
	for _, want := range []string{"Diagnosis", "Mitigation", "Verification", "Failback"} {
		if len(parts[want]) == 0 {
			return nil, fmt.Errorf("%s has no command under the heading %s", runbookFile, want)
		}
	}
	return parts, nil
}

// failover loses a region under load and follows the runbook there and back.
func failover(ctx context.Context, o options, out io.Writer) (*verdict, error) {
	book, err := readRunbook(o.root)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "failover: starting two regions in %s\n", o.dir)
	r, err := startRegions(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	l, err := newLoad(ctx, r.stand, o.rate)
	if err != nil {
		return nil, err
	}
	l.plain = true
	loading, enough := context.WithCancel(ctx)
	defer enough()
	driven := make(chan struct{})
	go func() { defer close(driven); l.drive(loading) }()

	t, err := r.shift(ctx, book, l, out)
	enough()
	<-driven
	if err != nil {
		return nil, err
	}
	for _, g := range r.gateways {
		if err := g.down(); err != nil {
			return nil, err
		}
	}
	return judgeRegions(r, l, t, o)
}

// times are when the turns of the failover were.
type times struct {
	began, lost, decided, verified, back, ended time.Time
	commands, failback                          time.Duration
	waiting                                     int // events of the lost region that the sink had not
}

func (r *regions) shift(ctx context.Context, book map[string][]string, l *load, out io.Writer) (t times, err error) {
	t.began = time.Now()
	if err := pause(ctx, 6*time.Second); err != nil {
		return t, err
	}
	// The region loses its way out before it dies, so that its spool holds what nobody else has.
	if err := r.sinkOfEast.cut(); err != nil {
		return t, err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return t, err
	}
	t.lost = time.Now()
	if err := r.lose(); err != nil {
		return t, err
	}
	fmt.Fprintln(out, "failover: the region that serves is lost")
	// Somebody has to see it; how long people take is for the exercise on paper.
	if err := pause(ctx, 3*time.Second); err != nil {
		return t, err
	}
	t.decided = time.Now()
	var blocks []string
	for _, part := range []string{"Diagnosis", "Mitigation", "Verification"} {
		blocks = append(blocks, book[part]...)
	}
	if t.commands, err = r.follow(ctx, blocks, out); err != nil {
		return t, err
	}
	t.verified = time.Now()
	before, err := readLedger(r.stand)
	if err != nil {
		return t, err
	}
	if err := pause(ctx, 10*time.Second); err != nil {
		return t, err
	}
	fmt.Fprintln(out, "failover: the region is rebuilt, and traffic goes back")
	if err := r.rebuild(); err != nil {
		return t, err
	}
	t.back = time.Now()
	if t.failback, err = r.follow(ctx, book["Failback"], out); err != nil {
		return t, err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return t, err
	}
	if err := await(ctx, patience, func() error { return r.gateways[east].delivered(ctx) }); err != nil {
		return t, err
	}
	t.ended = time.Now()
	after, err := readLedger(r.stand)
	if err != nil {
		return t, err
	}
	t.waiting = len(after.seen["east"]) - len(before.seen["east"])
	return t, nil
}

// judgeRegions holds the failover against what the runbook promises.
func judgeRegions(r *regions, l *load, t times, o options) (*verdict, error) {
	book, err := readLedger(r.stand)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, g := range r.gateways {
		newest, err := newestIn(o.binary, filepath.Join(g.dir, "spool"))
		if err != nil {
			return nil, err
		}
		missing = append(missing, book.missing(g.name, newest)...)
	}
	v := &verdict{o: o, began: t.began, took: t.ended.Sub(t.began), region: true}
	restored := t.lost
	var calm, unrecorded, served, granted, soon, refused, asked, failures int
	for _, a := range l.all() {
		if a.outage() {
			// An answer may have been under way when the region was lost.
			if a.due.Add(a.took).Before(t.lost) || a.due.After(t.verified) {
				calm++
				v.sample(&phase{drill: "failover", name: "a region serves"}, a)
			} else {
				failures++
			}
			if end := a.due.Add(a.took); a.due.Before(t.verified) && end.After(restored) {
				restored = end
			}
		}
		if a.kind <= call && !a.outage() {
			asked++
			if a.limited() {
				refused++
			}
		}
		if a.served() {
			served++
			if !book.traces[a.trace] {
				unrecorded++
			}
			if a.kind == eager {
				granted++
				if a.due.After(t.verified) && a.due.Before(t.verified.Add(10*time.Second)) {
					soon++
				}
			}
		}
	}
	const rate, burst = 100.0 / 60, 20.0
	// One burst more for what a gateway without Redis grants by itself, and one for what the replica had not.
	bound := 1.3*burst + rate*(v.took+4*time.Second).Seconds() + 2*burst + 2*rate*t.verified.Sub(t.lost).Seconds()
	v.checks = []check{
		{"time from the loss of the region until no request failed", "under 30 minutes",
			fmt.Sprintf("%.1f s, of which the runbook's commands took %.1f s; %d requests failed", restored.Sub(t.lost).Seconds(), t.commands.Seconds(), failures), restored.Sub(t.lost) < restore},
		{"requests that fail before the loss, after the verification and during the failback", "0", fmt.Sprint(calm), calm == 0},
		{"failback by the runbook", "no request fails", fmt.Sprintf("%.1f s", t.failback.Seconds()), true},
		{"audit events lost, by the numbers that the sink has", "0", fmt.Sprintf("%d of %d%s; %d of the lost region came after its return", len(missing), book.total(), first(missing), t.waiting), len(missing) == 0},
		{"events that waited in the spool of the lost region", "some, or nothing is proven", fmt.Sprint(t.waiting), t.waiting > 0},
		{"requests served of which the sink has no event", "0, or those under way at the loss", fmt.Sprintf("%d of %d", unrecorded, served), unrecorded <= max(1, o.rate/10)},
		{"callers within their limits who are refused", "under 1 %", fmt.Sprintf("%.3f %% (%d of %d)", percent(refused, asked), refused, asked), float64(refused) < falsePositives*float64(asked)},
		{"requests granted to a caller over its limit", fmt.Sprintf("at most %.0f", bound), fmt.Sprintf("%d, of which %d in the first 10 s in the other region (a caller with a full bucket would have had %.0f)", granted, soon, burst+10*rate), float64(granted) <= bound},
	}
	return v, nil
}
