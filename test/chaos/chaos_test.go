package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"

	// Go takes a passed test for passed until what it imports changes: these
	// change whenever the gateway does.
	_ "github.com/sallyport-gateway/sallyport/modules/standard"
)

// TestMain plays a role where the drill has started this program as a process
// of its cast.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		fmt.Fprintln(os.Stderr, role+":", play(role))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// The short form of all drills: every objective is met, on real processes.
func TestDrillsInShortForm(t *testing.T) {
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v, err := run(t.Context(), drills, options{binary: binary, root: "../..", dir: t.TempDir(), rate: 30, short: true}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(v)
	for _, c := range v.failures() {
		t.Errorf("%s: want %s, got %s", c.name, c.want, c.got)
	}
}

// Each shipped alert fires in a drill, and no drill waits for one that is gone.
func TestEveryAlertHasADrill(t *testing.T) {
	rules, err := shippedRules("../..")
	if err != nil {
		t.Fatal(err)
	}
	shipped := alertsOf(rules)
	if len(shipped) < 20 {
		t.Fatalf("%d alerts are found in the rules", len(shipped))
	}
	drilled := make(map[string]bool)
	for _, d := range drills {
		for _, s := range d.steps {
			for _, a := range s.alerts {
				if drilled[a] = true; !shipped[a] {
					t.Errorf("%s: %s waits for %s, which is no alert", d.name, s.name, a)
				}
			}
		}
	}
	for a := range shipped {
		if !drilled[a] {
			t.Errorf("no drill has %s fire", a)
		}
	}
}

func TestThePageHasTheTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/drills.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), alertTable()) {
		t.Errorf("docs/drills.md has another table than `go run ./test/chaos --table` prints:\n%s", alertTable())
	}
}

// The hastened rules are rules, and nothing in them looks back for hours.
func TestRulesAreHastened(t *testing.T) {
	rules, err := shippedRules("../..")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join([]string{rules["alerts.rules.yaml"], rules["recording.rules.yaml"]}, "")
	for _, a := range ages {
		if !strings.Contains(all, a.shipped) {
			t.Errorf("the rules have no %q any more; change the list of ages", a.shipped)
		}
	}
	slow := regexp.MustCompile(`\[\d+[mhd]\]|for: \d+[mhd]|interval: [^1]`)
	for name, text := range rules {
		fast := hasten(text)
		if found := slow.FindString(fast); found != "" {
			t.Errorf("%s: %q is as slow as before", name, found)
		}
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(fast), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("promtool", "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if got := hasten("rate(x[5m]) / rate(x[3d] offset 23h30m)"); got != "rate(x[8s]) / rate(x[53s] offset 23h30m)" {
		t.Errorf("got %q", got)
	}
}

// A number that did not arrive is found out, wherever it is missing.
func TestMissingEventsAreNoticed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events")
	line := func(seq int) string {
		return fmt.Sprintf(`{"node":"gw-1","epoch":"1","seq":"%d","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`+"\n", seq)
	}
	for _, c := range []struct {
		name   string
		seqs   []int
		newest uint64
		want   []string
	}{
		{"all", []int{1, 2, 3}, 3, nil},
		{"twice and out of order", []int{2, 1, 2, 3}, 3, nil},
		{"the first", []int{2, 3}, 3, []string{"gw-1/1"}},
		{"one between", []int{1, 3}, 0, []string{"gw-1/2"}},
		{"the newest", []int{1, 2}, 4, []string{"gw-1/3", "gw-1/4"}},
		{"all of it", nil, 0, []string{"gw-1: everything"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var text strings.Builder
			for _, seq := range c.seqs {
				text.WriteString(line(seq))
			}
			if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			l := &ledger{seen: make(map[string]map[uint64]bool), traces: make(map[string]bool)}
			if err := l.read(file, func(event) {}); err != nil {
				t.Fatal(err)
			}
			if got := l.missing("gw-1", c.newest); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if len(c.seqs) > 0 && !l.traces["4bf92f3577b34da6a3ce929d0e0e4736"] {
				t.Error("the trace is not found")
			}
		})
	}
}

// What counts as an outage decides the verdict.
func TestOutages(t *testing.T) {
	for _, c := range []struct {
		name   string
		a      answer
		outage bool
	}{
		{"served", answer{kind: polite, status: 200}, false},
		{"limited", answer{kind: polite, status: 429}, false},
		{"no answer", answer{kind: polite, err: io.EOF}, true},
		{"503", answer{kind: eager, status: 503}, true},
		{"a caller turned away", answer{kind: polite, status: 401}, true},
		{"a stranger let in", answer{kind: stranger, status: 200}, true},
		{"a forger refused", answer{kind: forged, status: 401}, false},
		{"a call", answer{kind: call, status: 200, code: "0"}, false},
		{"a call limited", answer{kind: call, status: 200, code: "8"}, false},
		{"a call failed", answer{kind: call, status: 200, code: "14"}, true},
		{"a call without a status", answer{kind: call, status: 200}, true},
	} {
		if got := c.a.outage(); got != c.outage {
			t.Errorf("%s: outage %v, want %v", c.name, got, c.outage)
		}
	}
}

func TestOnlyNamesADrill(t *testing.T) {
	chosen, err := choose("redis,sink")
	if err != nil || len(chosen) != 2 || chosen[1].name != "sink" {
		t.Errorf("got %v and %v", chosen, err)
	}
	if _, err := choose("redis,dns"); err == nil || !strings.Contains(err.Error(), "'dns'") || !strings.Contains(err.Error(), "upstream") {
		t.Errorf("an unknown drill: %v, want an error that names it and those there are", err)
	}
}

// A condition that never holds says so, with its last complaint.
func TestAwaitGivesUp(t *testing.T) {
	err := await(t.Context(), 300*time.Millisecond, func() error { return errors.New(http.StatusText(http.StatusTeapot)) })
	if err == nil || !strings.Contains(err.Error(), "teapot") {
		t.Errorf("got %v", err)
	}
}

// A region is lost under load, and the runbook's commands bring the service
// back, and the traffic home.
func TestRegionFailover(t *testing.T) {
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v, err := failover(t.Context(), options{binary: binary, root: "../..", dir: t.TempDir(), rate: 30, short: true}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(v)
	for _, c := range v.failures() {
		t.Errorf("%s: want %s, got %s", c.name, c.want, c.got)
	}
}
