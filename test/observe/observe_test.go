package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// TestEveryPanelHasData runs every query of every shipped dashboard on a real
// Prometheus that scrapes a real gateway under traffic, with the shipped rules.
func TestEveryPanelHasData(t *testing.T) {
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), t.TempDir(), binary, "../..")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	go s.Drive(t.Context())
	boards, err := readBoards("../../deploy/dashboards")
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(150 * time.Second)
	for _, b := range boards {
		for _, p := range b.Panels {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: %q asks nothing", b.Title, p.Title)
			}
			for _, q := range p.Targets {
				for tick := time.NewTicker(500 * time.Millisecond); ; <-tick.C {
					found, err := s.ask(t.Context(), q.Expr, 0)
					if err != nil {
						t.Errorf("%s: %q: %v", b.Title, p.Title, err)
						break
					}
					if hasNumbers(found) {
						break
					}
					if time.Now().After(deadline) {
						t.Errorf("%s: %q has no data:\n%s", b.Title, p.Title, q.Expr)
						break
					}
				}
			}
		}
		if svg := string(s.draw(t.Context(), b, time.Minute)); strings.Count(svg, "<polyline")+strings.Count(svg, "<rect") < len(b.Panels) {
			t.Errorf("%s: the picture is empty:\n%.2000s", b.Title, svg)
		}
	}
	// The rules of the alerts are evaluated too, or the names above prove half of it.
	if found, err := s.ask(t.Context(), `count(sallyport:requests:rate5m)`, 0); err != nil || !hasNumbers(found) {
		t.Errorf("the recording rules have recorded nothing: %v", err)
	}
}

// TestObjectivesAreMeasured asks the queries of docs/slo.md: each is answered.
func TestObjectivesAreMeasured(t *testing.T) {
	page, err := os.ReadFile("../../docs/slo.md")
	if err != nil {
		t.Fatal(err)
	}
	queries := promql.FindAllStringSubmatch(string(page), -1)
	if len(queries) < 8 {
		t.Fatalf("docs/slo.md has %d queries", len(queries))
	}
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), t.TempDir(), binary, "../..")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	go s.Drive(t.Context())
	deadline := time.Now().Add(150 * time.Second)
	for _, q := range queries {
		for tick := time.NewTicker(500 * time.Millisecond); ; <-tick.C {
			found, err := s.ask(t.Context(), q[1], 0)
			if err == nil && hasNumbers(found) {
				break
			}
			if err != nil || time.Now().After(deadline) {
				t.Errorf("no answer, %v:\n%s", err, q[1])
				break
			}
		}
	}
}

var promql = regexp.MustCompile("(?s)\n```promql\n(.*?)```")

// A query for what is not there must be found out.
func TestNoDataIsNoticed(t *testing.T) {
	if hasNumbers(nil) || hasNumbers([]series{{Value: [2]json.RawMessage{nil, json.RawMessage(`"NaN"`)}}}) {
		t.Error("no data, or no number, passes for data")
	}
}

func hasNumbers(found []series) bool {
	for _, s := range found {
		if v := string(s.Value[1]); v != `"NaN"` && v != "" {
			return true
		}
	}
	return false
}
