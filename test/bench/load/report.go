package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// result is one contestant's runs in one scenario.
type result struct {
	Scenario, What, Who string
	Runs                []shot
}

// cpu returns the least, the median and the greatest cost of a request.
func (r result) cpu() (low, middle, high float64) {
	var all []float64
	for _, s := range r.Runs {
		all = append(all, s.CPU)
	}
	slices.Sort(all)
	return all[0], all[len(all)/2], all[len(all)-1]
}

// reference is the first contestant of the same scenario: stock Caddy as a bare
// proxy, measured under the same load in the same minutes.
func reference(all []result, scenario string) float64 {
	i := slices.IndexFunc(all, func(r result) bool { return r.Scenario == scenario })
	_, middle, _ := all[i].cpu()
	return middle
}

func table(all []result) string {
	var b strings.Builder
	b.WriteString("| | job | who | CPU a request, median | least to most | to stock Caddy | requests a second | p99 | memory |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range all {
		low, middle, high := r.cpu()
		last := r.Runs[len(r.Runs)-1]
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f µs | %.1f–%.1f | %.2f | %.0f | %s | %d MiB |\n",
			r.Scenario, r.What, r.Who, middle, low, high, middle/reference(all, r.Scenario), last.Rate, last.P99, last.Memory>>20)
	}
	return b.String()
}

const begin, end = "<!-- load -->\n", "<!-- /load -->\n"

func writeMarkdown(file string, all []result) error {
	if file == "" {
		return nil
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(old, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %q and %q", file, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	note := fmt.Sprintf("\n%d cores, %s; %d connections, %d runs each, in turn.\n\n", runtime.NumCPU(), processor(), callers, len(all[0].Runs))
	return os.WriteFile(file, slices.Concat(head, []byte(begin), []byte(note), []byte(table(all)), []byte("\n"), []byte(end), tail), 0o644)
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

// writePlot draws a bar for each median.
func writePlot(file string, all []result) error {
	if file == "" {
		return nil
	}
	const row, left, width = 18, 330, 420
	most := 0.0
	for _, r := range all {
		_, middle, _ := r.cpu()
		most = max(most, middle)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+70, row*(len(all)+2))
	fmt.Fprintf(&b, `<text x="4" y="14" font-weight="bold">CPU a request, µs (median)</text>`+"\n")
	for i, r := range all {
		_, middle, _ := r.cpu()
		color, y := "#9aa5b1", row*(i+1)+6
		if strings.HasPrefix(r.Who, "Sallyport") {
			color = "#2b6cb0"
		}
		fmt.Fprintf(&b, `<text x="4" y="%d">%s  %s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%.1f</text>`+"\n",
			y+12, r.Scenario, r.Who, left, y, middle/most*width, row-4, color, left+middle/most*width+6, y+12, middle)
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
