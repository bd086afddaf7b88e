package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// writePlot draws a bar for each median, in the scale of its scenario.
func writePlot(file string, all []result) error {
	if file == "" || len(all) == 0 {
		return nil
	}
	const row, left, width = 18, 400, 420
	most := map[string]float64{}
	for _, r := range all {
		_, middle, _ := r.cpu()
		most[r.Scenario] = max(most[r.Scenario], middle)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+70, row*(len(all)+2))
	fmt.Fprintf(&b, `<text x="4" y="14" font-weight="bold">CPU a request, µs (median), each scenario in its own scale</text>`+"\n")
	for i, r := range all {
		_, middle, _ := r.cpu()
		y := row*(i+1) + 6
		fmt.Fprintf(&b, `<text x="4" y="%d">%s  %s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%.1f</text>`+"\n",
			y+12, r.Scenario, r.Who, left, y, middle/most[r.Scenario]*width, row-4, color(r.Who), left+middle/most[r.Scenario]*width+6, y+12, middle)
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

func color(who string) string {
	if strings.HasPrefix(who, "Sallyport") {
		return "#2b6cb0"
	}
	return "#9aa5b1"
}

// writeCurves draws what a request costs over how much there is, beside the plot
// of the medians.
func writeCurves(file string, all []point) error {
	if file == "" || len(all) == 0 {
		return nil
	}
	file = strings.TrimSuffix(file, ".svg") + "-growth.svg"
	const left, width, height, top = 60, 420, 120, 30
	var kinds []string
	byKind := map[string][]point{}
	for _, p := range all {
		if byKind[p.Of] == nil {
			kinds = append(kinds, p.Of)
		}
		byKind[p.Of] = append(byKind[p.Of], p)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+180, (height+2*top)*len(kinds))
	for i, kind := range kinds {
		base, most := (height+2*top)*i, 0.0
		for _, p := range byKind[kind] {
			most = max(most, p.CPU)
		}
		fmt.Fprintf(&b, `<text x="4" y="%d" font-weight="bold">CPU a request, µs, over the number of %s</text>`+"\n", base+18, kind)
		fmt.Fprintf(&b, `<path d="M%d %dv%dh%d" fill="none" stroke="#555"/><text x="4" y="%d">%.0f</text>`+"\n", left, base+top, height, width, base+top+10, most)
		lines := map[string]string{}
		for _, p := range byKind[kind] {
			x, y := left+width*math.Log10(max(1, float64(p.N)))/6, float64(base+top+height)-p.CPU/most*height
			if lines[p.Who] == "" {
				fmt.Fprintf(&b, `<text x="%d" y="%.0f" fill="%s">%s</text>`+"\n", left+width+8, y, color(p.Who), p.Who)
				lines[p.Who] = "M"
			} else {
				lines[p.Who] += "L"
			}
			lines[p.Who] += fmt.Sprintf("%.1f %.1f", x, y)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x, y, color(p.Who), x, base+top+height+14, p.N)
		}
		for who, path := range lines {
			fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s"/>`+"\n", path, color(who))
		}
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
