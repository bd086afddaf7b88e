package deploy

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// TestPrometheusRule keeps the operator's form of the rules equal to
// deploy/alerts, which has the tests.
func TestPrometheusRule(t *testing.T) {
	const file = kubernetes + "/components/servicemonitor/prometheusrule.yaml"
	files := readRules(t)
	var groups []any
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, g := range files[name].Groups {
			groups = append(groups, g)
		}
	}
	want, err := yaml.Marshal(map[string]any{
		"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
		"metadata": map[string]any{"name": "sallyport"}, "spec": map[string]any{"groups": groups},
	})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(want), text(t, file)); diff != "" {
		t.Errorf("%s is not what deploy/alerts says (-alerts +file); run the test with -update:\n%s", file, diff)
	}
}
