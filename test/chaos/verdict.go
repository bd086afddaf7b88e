package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// verdict is what a run showed.
type verdict struct {
	o       options
	region  bool // of a region failover, which has no phases
	began   time.Time
	took    time.Duration
	rows    []row
	checks  []check
	samples []string // of requests that failed where none was to fail
}

// check is one objective.
type check struct {
	name, want, got string
	met             bool
}

// row is one phase in figures.
type row struct {
	*phase
	requests, outages, limited, polite, served, covered int
	light, proxied                                      []time.Duration
}

// The objectives; docs/slo.md has them.
const (
	availability   = 0.9995
	falsePositives = 0.01
	coverage       = 0.95
	restore        = 30 * time.Minute
)

// judge holds what callers, sink and collector have seen against the objectives.
func judge(s *stand, l *load, phases []*phase, o options) (*verdict, error) {
	book, err := readLedger(s)
	if err != nil {
		return nil, err
	}
	traces, err := readTraces(s.dir)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, g := range s.gateways {
		newest, err := newestIn(o.binary, filepath.Join(g.dir, "spool"))
		if err != nil {
			return nil, err
		}
		missing = append(missing, book.missing(g.name, newest)...)
	}
	v := &verdict{o: o, began: phases[0].from, took: phases[len(phases)-1].to.Sub(phases[0].from)}
	var judged, outages, asked, refused, served, unrecorded, counted, covered, admitted, cut int
	for _, p := range phases {
		r := row{phase: p}
		for _, a := range l.all() {
			if a.due.Before(p.from) || !a.due.Before(p.to) {
				continue
			}
			r.add(a)
			if !p.outage {
				judged++
			}
			switch {
			case p.outage || !a.outage():
			case a.meets(s.killed):
				cut++
			default:
				outages++
				v.sample(p, a)
			}
			if a.kind <= call && !a.outage() && !p.wrong {
				asked++
				if a.limited() {
					refused++
				}
			}
			if a.served() {
				served++
				r.served++
				if traces[a.trace] {
					r.covered++
				}
				if !book.traces[a.trace] {
					unrecorded++
				}
				if !p.unseen {
					counted++
					if book.traces[a.trace] && traces[a.trace] {
						covered++
					}
				}
			}
		}
		v.rows = append(v.rows, r)
	}
	for _, a := range l.all() {
		if a.kind == eager && a.served() {
			admitted++
		}
	}
	v.checks = append(v.checks,
		check{"availability, where callers are to notice nothing", fmt.Sprintf("%.2f %%, or one request of fewer than 2000", 100*availability),
			fmt.Sprintf("%.3f %% (%d of %d failed, and %d under way in the gateway that was killed)", percent(judged-outages, judged), outages, judged, cut), outages <= max(1, int(float64(judged)*(1-availability)))},
		check{"callers within their limits who are refused", fmt.Sprintf("under %.0f %%", 100*falsePositives),
			fmt.Sprintf("%.3f %% (%d of %d)", percent(refused, asked), refused, asked), float64(refused) < falsePositives*float64(max(1, asked))},
		v.overshoot(admitted, l),
		check{"audit events lost, by the numbers that the sink has", "0",
			fmt.Sprintf("%d of %d%s", len(missing), book.total(), first(missing)), len(missing) == 0},
		check{"audit gaps told in the stream", "0", fmt.Sprint(book.damaged), book.damaged == 0},
		check{"requests served of which the sink has no event", "0, or those under way when a gateway was killed",
			fmt.Sprintf("%d of %d", unrecorded, served), unrecorded <= v.killed(l)},
		check{"requests with trace and audit event", fmt.Sprintf("%.0f %%", 100*coverage),
			fmt.Sprintf("%.2f %% (%d of %d)", percent(covered, counted), covered, counted), float64(covered) >= coverage*float64(counted)},
		v.restored(), v.alerts())
	return v, nil
}

func (r *row) add(a *answer) {
	r.requests++
	if a.outage() {
		r.outages++
	}
	if a.kind <= call {
		r.polite++
		if a.limited() {
			r.limited++
		}
	}
	if a.served() {
		r.proxied = append(r.proxied, a.took)
	} else if !a.outage() {
		r.light = append(r.light, a.took)
	}
}

func (v *verdict) sample(p *phase, a *answer) {
	if len(v.samples) < 10 {
		v.samples = append(v.samples, fmt.Sprintf("%s: %s: %d %s %v after %s", p.drill, p.name, a.status, a.code, a.err, a.took.Round(time.Millisecond)))
	}
}

func (l *ledger) total() (n int) {
	for _, seqs := range l.seen {
		n += len(seqs)
	}
	return n
}

// killed is how many requests may have been answered within the last
// milliseconds of a gateway that was killed, before their events were written.
func (v *verdict) killed(l *load) (n int) {
	for _, r := range v.rows {
		if r.broken && r.name == "a gateway is killed" {
			n += max(1, l.rate/10)
		}
	}
	return n
}

// overshoot holds what the eager caller was granted against what the limit
// promises: 1.3 bursts and the rate, and while Redis is in trouble twice an
// even share at each gateway, which is the whole limit once more for each.
func (v *verdict) overshoot(admitted int, l *load) check {
	const rate, burst = 100.0 / 60, 20.0
	// The load runs before the first phase too, while everything settles.
	all := l.all()
	asked := all[len(all)-1].due.Sub(all[0].due) + 4*time.Second
	bound := 1.3*burst + rate*asked.Seconds()
	for _, r := range v.rows {
		if r.drill == "redis" || r.drill == "restart" {
			bound += 2 * rate * r.to.Sub(r.from).Seconds()
			if r.broken {
				bound += 2 * burst
			}
		}
	}
	return check{"requests granted to a caller over its limit (100/1m, burst 20)", fmt.Sprintf("at most %.0f", bound),
		fmt.Sprintf("%d of some %.0f", admitted, asked.Seconds()*float64(l.rate)/10), float64(admitted) <= bound}
}

func (v *verdict) restored() check {
	var worst time.Duration
	name := ""
	for _, r := range v.rows {
		if r.restored > worst {
			worst, name = r.restored, r.name
		}
	}
	return check{"time to restore, from the mending until nothing is degraded and its alerts have cleared", "under 30 minutes",
		fmt.Sprintf("%.0f s at most (%s)", worst.Seconds(), name), worst < restore}
}

func (v *verdict) alerts() check {
	var wanted, failed []string
	for _, r := range v.rows {
		wanted = append(wanted, r.phase.alerts...)
		if r.err != nil {
			failed = append(failed, r.name+": "+strings.ReplaceAll(r.err.Error(), "\n", "; "))
		}
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	got := fmt.Sprintf("%d of %d", len(wanted), len(wanted))
	if failed != nil {
		got = strings.Join(failed, "; ")
	}
	return check{"alerts that fire while something is broken and clear afterwards", fmt.Sprintf("%d", len(wanted)), got, failed == nil}
}

func (v *verdict) failures() (failed []check) {
	for _, c := range v.checks {
		if !c.met {
			failed = append(failed, c)
		}
	}
	return failed
}

func percent(part, whole int) float64 {
	if whole == 0 {
		return 100
	}
	return 100 * float64(part) / float64(whole)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list[:min(5, len(list))], ", ")
}
