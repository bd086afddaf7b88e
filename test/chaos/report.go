package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// String is the verdict as Markdown tables.
func (v *verdict) String() string {
	var b strings.Builder
	b.WriteString("\n| objective | promised | measured | |\n|---|---|---|---|\n")
	for _, c := range v.checks {
		mark := "met"
		if !c.met {
			mark = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.name, c.want, c.got, mark)
	}
	if !v.region {
		v.phases(&b)
	}
	if v.samples != nil {
		fmt.Fprintf(&b, "\nSome of the requests that failed:\n\n- %s\n", strings.Join(v.samples, "\n- "))
	}
	return b.String()
}

func (v *verdict) phases(b *strings.Builder) {
	b.WriteString("\n| what is broken | for | requests | failed | refused within limit | traced | p95 light | p95 proxied | alerts | restored after |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range v.rows {
		if r.drill != "" && !r.broken {
			continue // what is mended is in the figures above
		}
		restored := "–"
		if r.broken {
			restored = fmt.Sprintf("%.0f s", r.phase.restored.Seconds())
		}
		fmt.Fprintf(b, "| %s | %.0f s | %d | %d%s | %d of %d | %.1f %% | %s | %s | %s | %s |\n", title(r), r.to.Sub(r.from).Seconds(), r.requests,
			r.outages, map[bool]string{true: " (expected)"}[r.outage], r.limited, r.polite, percent(r.covered, r.served), p95(r.light), p95(r.proxied), r.told(), restored)
	}
}

func title(r row) string {
	if r.drill == "" {
		return r.name
	}
	return "`" + r.drill + "`: " + r.name
}

// told are the alerts that fired while the thing was broken, with how long
// after, and of those that were to fire how long it took them to clear.
func (r row) told() string {
	var list []string
	for _, t := range r.turns {
		if !t.firing {
			continue
		}
		line := fmt.Sprintf("%s %.0f s", strings.TrimPrefix(t.alert, "Sallyport"), t.at.Sub(r.from).Seconds())
		if slices.Contains(r.phase.alerts, t.alert) {
			line = "**" + line + "**"
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ", ")
}

func p95(all []time.Duration) string {
	if len(all) == 0 {
		return "–"
	}
	slices.Sort(all)
	return fmt.Sprintf("%.0f ms", float64(all[len(all)*95/100].Microseconds())/1000)
}

// reportOf is the page that is kept.
func reportOf(verdicts []*verdict) string {
	var b strings.Builder
	v := verdicts[0]
	fmt.Fprintf(&b, reportHead, v.began.UTC().Format("2 January 2006"), v.o.rate)
	for _, v := range verdicts {
		heading := fmt.Sprintf("\n## One after the other\n\n%.0f minutes.\n", v.took.Minutes())
		if v.region {
			heading = fmt.Sprintf("\n## Region failover\n\nThe commands of [the runbook](runbooks/region-failover.md), there and back in %.0f seconds.\n", v.took.Seconds())
		}
		b.WriteString(heading + v.String())
	}
	return b.String()
}

const reportHead = `# The last drill

Written by ` + "`make chaos`" + ` on %s, at %d requests a second, in the full form. [Drills](drills.md) says what is done and how it is judged.
Latencies are told and not judged: everything, the load included, ran on one machine whose two cores others used too. The alerts in bold are the ones
that the step is for, with the seconds until they fired by the hastened rules; the others follow from it.
`
