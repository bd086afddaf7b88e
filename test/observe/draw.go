package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"net/http"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	column = 40 // pixels of a Grafana column
	line   = 22 // pixels of a Grafana line
)

var colours = []string{"#3274d9", "#e0752d", "#56a64b", "#b877d9", "#d44a3a", "#8f8f8f", "#1f9e9e", "#c2a21f"}

// draw draws a dashboard as Grafana lays it out.
func (s *Stand) draw(ctx context.Context, b board, over time.Duration) []byte {
	var out bytes.Buffer
	height := 0
	for _, p := range b.Panels {
		height = max(height, (p.GridPos.Y+p.GridPos.H)*line)
	}
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="10">`+"\n", 24*column, height)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	for _, p := range b.Panels {
		x, y := p.GridPos.X*column, p.GridPos.Y*line
		if p.Type == "row" {
			fmt.Fprintf(&out, `<text x="%d" y="%d" font-size="13" font-weight="bold">%s</text>`+"\n", x+6, y+line-6, html.EscapeString(p.Title))
			continue
		}
		fmt.Fprintf(&out, `<g transform="translate(%d,%d)">`, x, y)
		s.panel(ctx, &out, p, over)
		out.WriteString("</g>\n")
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (s *Stand) panel(ctx context.Context, out *bytes.Buffer, p panel, over time.Duration) {
	w, h := float64(p.GridPos.W*column-8), float64(p.GridPos.H*line-8)
	fmt.Fprintf(out, `<rect x="2" y="2" width="%.0f" height="%.0f" fill="none" stroke="#ddd"/><text x="8" y="15" font-weight="bold">%s</text>`, w, h, html.EscapeString(p.Title))
	var lines []plotted
	for _, q := range p.Targets {
		found, err := s.ask(ctx, q.Expr, over)
		if err != nil {
			fmt.Fprintf(out, `<text x="8" y="40" fill="#d44a3a">%s</text>`, html.EscapeString(err.Error()))
			return
		}
		for _, f := range found {
			lines = append(lines, plotted{legend(q.LegendFormat, f.Metric), points(f.Values), f.Metric["le"]})
		}
	}
	switch {
	case p.Type == "heatmap":
		heatmap(out, lines, w, h)
	case p.Type == "stat":
		for i, l := range lines {
			if n := len(l.points); n > 0 {
				fmt.Fprintf(out, `<text x="12" y="%d" font-size="16" fill="%s">%s %s</text>`, 50+i*24, colours[i%len(colours)],
					format(l.points[n-1].y, p.FieldConfig.Defaults.Unit), html.EscapeString(l.legend))
			}
		}
	default:
		chart(out, lines, w, h, p.FieldConfig.Defaults.Unit)
	}
}

type plotted struct {
	legend string
	points []point
	le     string
}

type point struct{ x, y float64 }

func points(values [][2]json.RawMessage) (all []point) {
	for _, v := range values {
		x, errX := strconv.ParseFloat(string(v[0]), 64)
		y, errY := strconv.ParseFloat(strings.Trim(string(v[1]), `"`), 64)
		if errX == nil && errY == nil && !math.IsNaN(y) && !math.IsInf(y, 0) {
			all = append(all, point{x, y})
		}
	}
	return all
}

var label = regexp.MustCompile(`\{\{(\w+)\}\}`)

func legend(pattern string, metric map[string]string) string {
	return label.ReplaceAllStringFunc(pattern, func(m string) string { return metric[m[2:len(m)-2]] })
}

// bounds returns the extent of all points, from zero up.
func bounds(lines []plotted) (x0, x1, top float64) {
	x0 = math.Inf(1)
	for _, l := range lines {
		for _, p := range l.points {
			x0, x1, top = min(x0, p.x), max(x1, p.x), max(top, p.y)
		}
	}
	if x1 <= x0 {
		x1 = x0 + 1
	}
	if top == 0 {
		top = 1
	}
	return x0, x1, top
}

func chart(out *bytes.Buffer, lines []plotted, w, h float64, unit string) {
	x0, x1, top := bounds(lines)
	left, upper, lower := 46.0, 24.0, h-34
	for i := range 3 {
		y := lower - (lower-upper)*float64(i)/2
		fmt.Fprintf(out, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#eee"/><text x="6" y="%.1f" fill="#666">%s</text>`, left, w-4, y, y, y+3, format(top*float64(i)/2, unit))
	}
	at := 8.0
	for i, l := range lines {
		colour := colours[i%len(colours)]
		var path strings.Builder
		for _, p := range l.points {
			fmt.Fprintf(&path, "%.1f,%.1f ", left+(w-6-left)*(p.x-x0)/(x1-x0), lower-(lower-upper)*p.y/top)
		}
		fmt.Fprintf(out, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.3"/>`, strings.TrimSpace(path.String()), colour)
		if width := float64(len(l.legend))*5.2 + 14; at+width < w {
			fmt.Fprintf(out, `<text x="%.0f" y="%.0f" fill="%s">%s</text>`, at, h-14, colour, html.EscapeString(l.legend))
			at += width
		}
	}
}

// heatmap draws cumulative buckets as one row of cells each.
func heatmap(out *bytes.Buffer, lines []plotted, w, h float64) {
	sort.Slice(lines, func(i, j int) bool { return edge(lines[i].le) < edge(lines[j].le) })
	x0, x1, _ := bounds(lines)
	at := func(l plotted) map[float64]float64 {
		m := make(map[float64]float64)
		for _, p := range l.points {
			m[p.x] = p.y
		}
		return m
	}
	left, upper, lower := 46.0, 24.0, h-14
	row := (lower - upper) / float64(max(1, len(lines)))
	before := map[float64]float64{}
	for i, l := range lines {
		y := lower - row*float64(i+1)
		fmt.Fprintf(out, `<text x="6" y="%.1f" font-size="7" fill="#666">%s</text>`, y+row, html.EscapeString(l.le))
		now := at(l)
		for x, v := range now {
			if n := v - before[x]; n > 0.01 {
				fmt.Fprintf(out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#3274d9" fill-opacity="%.2f"/>`,
					left+(w-8-left)*(x-x0)/(x1-x0), y, max(1.5, (w-left)/120), row, min(1, 0.15+n/30))
			}
		}
		before = now
	}
}

func edge(le string) float64 {
	v, err := strconv.ParseFloat(le, 64)
	if err != nil {
		return math.Inf(1)
	}
	return v
}

// format writes v in a unit of Grafana's.
func format(v float64, unit string) string {
	switch unit {
	case "percentunit":
		return strconv.FormatFloat(v*100, 'g', 3, 64) + "%"
	case "s":
		return strconv.FormatFloat(v*1000, 'g', 3, 64) + " ms"
	case "bytes":
		return strconv.FormatFloat(v/1024, 'g', 3, 64) + " KiB"
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// pages serves the drawings of the last ten minutes.
func (s *Stand) pages(boards []board) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><meta http-equiv="refresh" content="10"><title>Sallyport</title>`)
		for _, b := range boards {
			fmt.Fprintf(w, `<h2>%s</h2><img src="/%s.svg" width="100%%">`, html.EscapeString(b.Title), b.UID)
		}
	})
	for _, b := range boards {
		mux.HandleFunc("GET /"+b.UID+".svg", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/svg+xml")
			_, _ = w.Write(s.draw(r.Context(), b, 10*time.Minute)) // the reader left
		})
	}
	return mux
}
