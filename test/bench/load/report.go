package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// result is one contestant's runs in one scenario.
type result struct {
	Scenario, What, Who string
	Idle                int64 `json:",omitempty"` // bytes of an idle connection
	Runs                []shot
}

// cpu returns the least, the median and the greatest cost of a request.
func (r result) cpu() (low, middle, high float64) {
	all := slices.SortedFunc(slices.Values(r.Runs), func(a, b shot) int { return cmp.Compare(a.CPU, b.CPU) })
	return all[0].CPU, all[len(all)/2].CPU, all[len(all)-1].CPU
}

// to returns the median of what r costs in units of stock Caddy as a bare proxy,
// as shipped or at Sallyport's GOGC, in the same round: the machine's pace
// changes from minute to minute, and less within a round.
func (r result) to(all []result, lean bool) float64 {
	i := slices.IndexFunc(all, func(o result) bool {
		return o.Scenario == r.Scenario && strings.HasPrefix(o.Who, "stock Caddy") && strings.Contains(o.Who, "GOGC=400") == lean
	})
	ratios := make([]float64, len(r.Runs))
	for round, s := range r.Runs {
		ratios[round] = s.CPU / all[i].Runs[round].CPU
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

func table(all []result) string {
	var b strings.Builder
	b.WriteString("| | job | who | CPU a request, median | least to most | to stock Caddy | at equal GOGC | allocations | requests a second | memory |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range all {
		low, middle, high := r.cpu()
		last, allocs := r.Runs[len(r.Runs)-1], "–"
		if last.Allocs > 0 {
			allocs = fmt.Sprintf("%.0f", last.Allocs)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f µs | %.1f–%.1f | %.2f | %.2f | %s | %.0f | %d MiB |\n", r.Scenario, r.What, r.Who, middle, low, high,
			r.to(all, false), r.to(all, true), allocs, last.Rate, last.Memory>>20)
	}
	return b.String()
}

func timings(all []timing) string {
	var b strings.Builder
	b.WriteString("| job | who | arrivals a second | p50 | p99 | p99.9 | longest | sent twice |\n|---|---|---|---|---|---|---|---|\n")
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
	for _, t := range all {
		fmt.Fprintf(&b, "| %s | %s | %.0f | %s | %s | %s | %s | %d |\n", t.What, t.Who, t.Rate, ms(t.P50), ms(t.P99), ms(t.P999), ms(t.Max), t.Lost)
	}
	return b.String()
}

func curves(all []point) string {
	var b strings.Builder
	b.WriteString("| of what | who | how many | CPU a request | memory | for each of them |\n|---|---|---|---|---|---|\n")
	for _, p := range all {
		each := "–"
		if p.Each > 0 {
			each = fmt.Sprintf("%d bytes", p.Each)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %.1f µs | %d MiB | %s |\n", p.Of, p.Who, p.N, p.CPU, p.Memory>>20, each)
	}
	return b.String()
}

// sections are the tables by the name of their place in the page.
func (r report) sections() (names []string, text map[string]string) {
	text = map[string]string{}
	add := func(name, table string, n int) {
		if n > 0 {
			names, text[name] = append(names, name), table
		}
	}
	add("load", table(r.Results), len(r.Results))
	add("arrivals", timings(r.Timings), len(r.Timings))
	add("reloads", timings(r.Reloads), len(r.Reloads))
	add("growth", curves(r.Points), len(r.Points))
	return names, text
}

func (r report) text() string {
	var b strings.Builder
	names, text := r.sections()
	for _, name := range names {
		b.WriteString(text[name] + "\n")
	}
	return b.String()
}

// writeMarkdown replaces in the page what was measured, and leaves the rest.
func (r report) writeMarkdown(file string) error {
	if file == "" {
		return nil
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%s: %d cores, %s, %s; %d connections.", time.Now().UTC().Format(time.DateOnly), cores(), processor(), runtime.Version(), callers)
	if len(r.Results) > 0 {
		note += fmt.Sprintf(" %d runs each, in turn.", len(r.Results[0].Runs))
	}
	names, text := r.sections()
	for _, name := range names {
		begin, end := fmt.Appendf(nil, "<!-- %s -->\n", name), fmt.Appendf(nil, "<!-- /%s -->\n", name)
		head, rest, ok := bytes.Cut(page, begin)
		_, tail, ok2 := bytes.Cut(rest, end)
		if !ok || !ok2 {
			return fmt.Errorf("%s has no %q and %q", file, bytes.TrimSpace(begin), bytes.TrimSpace(end))
		}
		page = slices.Concat(head, begin, []byte("\n"+note+"\n\n"+text[name]+"\n"), end, tail)
	}
	return os.WriteFile(file, page, 0o644)
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	_, rest, _ := strings.Cut(string(text), "model name")
	name, _, _ := strings.Cut(rest, "\n")
	return strings.Trim(name, ": \t")
}
