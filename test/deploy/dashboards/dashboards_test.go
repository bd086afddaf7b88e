package dashboards

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const folder = "../../../deploy/dashboards/"

var update = flag.Bool("update", false, "write deploy/dashboards")

// TestDashboards compares the files with what this package makes, and reads
// them back as Grafana's own types do, which refuse what they do not know.
func TestDashboards(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range all {
		want, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		if *update {
			if err := os.WriteFile(folder+name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(folder + name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what is generated (-generated +file); run the test with -update:\n%s", name, diff)
		}
		var back dashboard.Dashboard
		if err := back.UnmarshalJSONStrict(bytes.TrimSpace(got)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := back.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	files, err := filepath.Glob(folder + "*.json")
	if err != nil || len(files) != len(all) {
		t.Errorf("%d files for %d dashboards (%v)", len(files), len(all), err)
	}
}
