package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// The shipped rules look back over up to three days. A drill has minutes, so
// it runs a copy in which time is shorter:
//
//	window w     8 s × (w / 5 min)^0.28: 5m→8s, 1h→16s, 6h→27s, 3d→53s; what follows `offset` stays
//	for: d       3 s × (d / 5 min)^0.5:  1m→1s, 5m→3s, 15m→5s
//	interval     1 s
//	ages, and how many samples a window must hold: the list below
//
// Shares, ratios and factors of a burn rate are those of the shipped rules.
var ages = []struct{ shipped, drilled string }{
	{"keyset_age_seconds) > 2 * 3600", "keyset_age_seconds) > 20"},
	{"keyset_age_seconds) > 18 * 3600", "keyset_age_seconds) > 30"},
	{"sink_lag_seconds) > 300", "sink_lag_seconds) > 10"},
	{"[30m], 4 * 3600)", "[30m], 300)"},
	{"audited_total[1h])) > 20", "audited_total[1h])) > 2"},
}

var (
	window   = regexp.MustCompile(`\[(\d+)([mhd])\]`)
	holding  = regexp.MustCompile(`(?m)^(\s+for: )(\d+)([mhd])$`)
	interval = regexp.MustCompile(`(?m)^(\s+interval: )\S+$`)
	alert    = regexp.MustCompile(`(?m)^\s+- alert: (\w+)$`)
)

func seconds(number, unit string) float64 {
	n, _ := strconv.Atoi(number) // digits, as matched
	return float64(n) * map[string]float64{"m": 60, "h": 3600, "d": 86400}[unit]
}

// hasten returns the rules with shorter times.
func hasten(rules string) string {
	for _, a := range ages {
		rules = strings.ReplaceAll(rules, a.shipped, a.drilled)
	}
	rules = window.ReplaceAllStringFunc(rules, func(text string) string {
		m := window.FindStringSubmatch(text)
		return fmt.Sprintf("[%.0fs]", 8*math.Pow(seconds(m[1], m[2])/300, 0.28))
	})
	rules = holding.ReplaceAllStringFunc(rules, func(text string) string {
		m := holding.FindStringSubmatch(text)
		return fmt.Sprintf("%s%.0fs", m[1], 3*math.Sqrt(seconds(m[2], m[3])/300))
	})
	return interval.ReplaceAllString(rules, "${1}1s")
}

// shippedRules are the rule files and their text.
func shippedRules(root string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "deploy/alerts/*.rules.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no rules in %s: %w", root, err)
	}
	rules := make(map[string]string)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		rules[filepath.Base(f)] = string(text)
	}
	return rules, nil
}

// alertsOf are the names of the alerts in rules.
func alertsOf(rules map[string]string) map[string]bool {
	names := make(map[string]bool)
	for _, text := range rules {
		for _, m := range alert.FindAllStringSubmatch(text, -1) {
			names[m[1]] = true
		}
	}
	return names
}
