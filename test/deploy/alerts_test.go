package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const alerts = "../../deploy/alerts"

// rules is a file of Prometheus rules.
type rules struct {
	Groups []struct {
		Name     string `json:"name"`
		Interval string `json:"interval,omitempty"`
		Rules    []rule `json:"rules"`
	} `json:"groups"`
}

type rule struct {
	Record      string            `json:"record,omitempty"`
	Alert       string            `json:"alert,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func readRules(t *testing.T) map[string]rules {
	t.Helper()
	files, err := filepath.Glob(alerts + "/*.rules.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	all := make(map[string]rules)
	for _, f := range files {
		var r rules
		if err := yaml.UnmarshalStrict([]byte(text(t, f)), &r); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[filepath.Base(f)] = r
	}
	return all
}

func eachRule(t *testing.T, look func(r rule)) {
	t.Helper()
	for _, file := range readRules(t) {
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				look(r)
			}
		}
	}
}

func text(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// tool runs a program and returns what it prints; one that is missing fails.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v (make verify-deploy installs what is missing)\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestAlertRules runs the rules' own tests. The cases name labels only, so the
// words of the annotations are left out of the copy that they run on.
func TestAlertRules(t *testing.T) {
	dir := t.TempDir()
	for name, file := range readRules(t) {
		tool(t, "promtool", "check", "rules", alerts+"/"+name)
		for _, g := range file.Groups {
			for i := range g.Rules {
				g.Rules[i].Annotations = nil
			}
		}
		bare, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), bare, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "tests"), os.DirFS(alerts+"/tests")); err != nil {
		t.Fatal(err)
	}
	cases, err := filepath.Glob(filepath.Join(dir, "tests", "*.yaml"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no tests of the rules: %v", err)
	}
	tool(t, "promtool", append([]string{"test", "rules"}, cases...)...)
}

// Every alert has a case in which it fires and one in which it does not, or the
// tests above prove nothing of it.
func TestEveryAlertIsTested(t *testing.T) {
	type cases struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string `json:"alertname"`
				ExpAlerts []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	fires := make(map[string]bool)
	files, _ := filepath.Glob(alerts + "/tests/*.yaml")
	for _, f := range files {
		var c cases
		if err := yaml.Unmarshal([]byte(text(t, f)), &c); err != nil {
			t.Fatal(err)
		}
		for _, test := range c.Tests {
			for _, a := range test.AlertRuleTest {
				fires[a.Alertname] = fires[a.Alertname] || len(a.ExpAlerts) > 0
			}
		}
	}
	known := make(map[string]bool)
	eachRule(t, func(r rule) {
		if r.Alert != "" {
			known[r.Alert] = true
		}
		if r.Alert != "" && !fires[r.Alert] {
			t.Errorf("no case in deploy/alerts/tests makes %s fire", r.Alert)
		}
	})
	for name := range fires {
		if !known[name] {
			t.Errorf("deploy/alerts/tests speaks of %s, which no rule defines", name)
		}
	}
}

var runbookHeadings = []string{"## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## Verification", "## Last drill"}

// Alerts and runbooks are one to one, and a runbook says all that it must.
func TestAlertsHaveRunbooks(t *testing.T) {
	const url = "https://github.com/sallyport-gateway/sallyport/blob/main/"
	wanted := make(map[string]bool)
	eachRule(t, func(r rule) {
		if r.Alert == "" {
			return
		}
		file := "docs/runbooks/" + r.Alert + ".md"
		wanted[filepath.Base(file)] = true
		if r.Annotations["runbook_url"] != url+file {
			t.Errorf("%s names the runbook %q, want %s", r.Alert, r.Annotations["runbook_url"], url+file)
		}
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has the severity %q, want page or ticket", r.Alert, s)
		}
		page, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Error(err)
			return
		}
		if !strings.HasPrefix(string(page), "# "+r.Alert+"\n\nSeverity: "+r.Labels["severity"]+".") {
			t.Errorf("%s does not begin with its alert and severity", file)
		}
		for _, h := range runbookHeadings {
			if !strings.Contains(string(page), "\n"+h+"\n") {
				t.Errorf("%s has no part %q", file, h)
			}
		}
	})
	for _, page := range runbooks(t) {
		name := filepath.Base(page)
		if strings.HasPrefix(name, "Sallyport") && !wanted[name] {
			t.Errorf("%s is the runbook of no alert", page)
		}
	}
}

func runbooks(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no runbooks: %v", err)
	}
	return pages
}

var (
	metricRow  = regexp.MustCompile("(?m)^\\|( `[^|]*) \\|")
	metricName = regexp.MustCompile("`([a-z0-9_]+)[`{]")
	ourNames   = regexp.MustCompile(`\b(?:sallyport[_:]|caddy_|db_client_)[a-z0-9_:]*[a-z0-9]\b`)
	suffix     = regexp.MustCompile(`_(?:bucket|count|sum)$`)
)

// metricNames returns what the gateway exposes, as the pages of its modules
// list it (a test of the gateway holds those against the code), and what the
// rules record.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	// Caddy's own, that of `run --watch`, and what the overlays record of Git (config-hash.yaml).
	names := map[string]bool{"caddy_config_last_reload_successful": true, "sallyport_config_file_in_force": true, "sallyport:config_hash:git": true}
	pages, _ := filepath.Glob("../../docs/modules/*.md")
	for _, p := range pages {
		_, table, _ := strings.Cut(text(t, p), "\n## Metrics\n")
		table, _, _ = strings.Cut(table, "\n## ")
		for _, row := range metricRow.FindAllStringSubmatch(table, -1) {
			for _, m := range metricName.FindAllStringSubmatch(row[1], -1) {
				names[m[1]] = true
			}
		}
	}
	eachRule(t, func(r rule) {
		if r.Record != "" {
			names[r.Record] = true
		}
	})
	return names
}

// TestMetricsExist compares the names in rules, runbooks, dashboards and
// manifests with those of the gateway.
func TestMetricsExist(t *testing.T) {
	names := metricNames(t)
	check := func(where, text string) {
		for _, name := range ourNames.FindAllString(text, -1) {
			if !names[name] && !names[suffix.ReplaceAllString(name, "")] && !slices.Contains(notMetrics, name) {
				t.Errorf("%s names %s, which the gateway does not expose and no rule records", where, name)
			}
		}
	}
	eachRule(t, func(r rule) { check(r.Alert+r.Record, r.Expr) })
	for _, page := range runbooks(t) {
		check(page, text(t, page))
	}
	for _, pattern := range []string{"/dashboards/*.json", "/kubernetes/components/*/*.yaml", "/kubernetes/base/*.yaml"} {
		files, _ := filepath.Glob("../../deploy" + pattern)
		if len(files) == 0 {
			t.Errorf("there is no deploy%s", pattern)
		}
		for _, f := range files {
			check(f, text(t, f))
		}
	}
}

// notMetrics are other things that look like one: the name of the autoscaler's
// metric, which the adapter makes, and of apps.
var notMetrics = []string{"sallyport_request_duration_p95_seconds", "sallyport_audit"}

// TestAlertmanager checks the routes: production pages, everything else does not.
func TestAlertmanager(t *testing.T) {
	config := alerts + "/alertmanager.yaml"
	tool(t, "amtool", "check-config", config)
	for labels, want := range map[string]string{
		"severity=page job=sallyport":         "on-call",
		"severity=page job=sallyport-staging": "channel",
		"severity=ticket job=sallyport":       "tickets",
		"severity=unheard-of job=sallyport":   "tickets",
	} {
		args := append([]string{"config", "routes", "test", "--config.file=" + config, "--verify.receivers=" + want}, strings.Fields(labels)...)
		tool(t, "amtool", args...)
	}
}
