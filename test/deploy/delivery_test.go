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

const workflows = "../../.github/workflows/"

func readYAML(t *testing.T, file string) object {
	t.Helper()
	o := make(object)
	if err := yaml.Unmarshal([]byte(text(t, file)), &o); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return o
}

// runs returns what the steps of a job run.
func runs(o object, job string) (all []string) {
	steps, _ := o.at("jobs", job, "steps").([]any)
	for _, s := range steps {
		if run, ok := s.(map[string]any)["run"].(string); ok {
			all = append(all, run)
		}
	}
	return all
}

// TestCIRunsTheTargets: a job does what a make target of its name does, so that
// whatever CI finds can be found on a laptop.
func TestCIRunsTheTargets(t *testing.T) {
	ci := readYAML(t, workflows+"ci.yml")
	for _, job := range []string{"lint", "vet", "vuln", "unit", "race", "e2e", "smoke", "image"} {
		if !slices.Contains(runs(ci, job), "make "+job) {
			t.Errorf("the job %s runs %v, want make %s", job, runs(ci, job), job)
		}
	}
	jobs, _ := ci["jobs"].(map[string]any)
	for job := range jobs {
		for _, run := range runs(ci, job) {
			if !strings.HasPrefix(run, "make ") && job != "snyk" {
				t.Errorf("the job %s runs %q, which is no make target", job, run)
			}
		}
	}
}

// A release is tested, built once, scanned before it is signed, and verified as
// a user would; nothing reaches an overlay without that.
func TestReleaseOrder(t *testing.T) {
	release := readYAML(t, workflows+"release.yml")
	for job, needs := range map[string]string{"files": "test", "image": "files", "dev": "image"} {
		if release.at("jobs", job, "needs") != needs {
			t.Errorf("the job %s needs %v, want %s", job, release.at("jobs", job, "needs"), needs)
		}
	}
	var order []string
	for _, run := range runs(release, "image") {
		order = append(order, strings.Fields(strings.TrimPrefix(run, "make "))[0])
	}
	if want := []string{"push", "scan", "sign", "verify-image"}; !slices.Equal(order[:4], want) {
		t.Errorf("the image is treated by %v, want %v", order, want)
	}
	promote := readYAML(t, workflows+"promote.yml")
	if promote.at("jobs", "promote", "needs") != "regression" || promote.at("jobs", "promote", "environment") == nil {
		t.Error("a promotion needs neither the regression suite nor an approval")
	}
}

// The configuration of the release: two architectures, nothing that changes
// from build to build, the flags of `make build`.
func TestReleaseConfiguration(t *testing.T) {
	c := readYAML(t, "../../.tools/release/goreleaser.yaml")
	list := func(v any) (out []string) {
		items, _ := v.([]any)
		for _, i := range items {
			out = append(out, i.(string))
		}
		return out
	}
	if got := list(c.at("builds", 0, "goarch")); !slices.Equal(got, []string{"amd64", "arm64"}) {
		t.Errorf("architectures %v", got)
	}
	for _, flag := range []string{"-trimpath", "-mod=readonly"} {
		if !slices.Contains(list(c.at("builds", 0, "flags")), flag) || !strings.Contains(text(t, "../../Makefile"), "go build -trimpath -mod=readonly") {
			t.Errorf("the release or make build is made without %s", flag)
		}
	}
	if c.at("builds", 0, "mod_timestamp") != "{{ .CommitTimestamp }}" {
		t.Error("binaries carry the time of the build")
	}
}

var fields = regexp.MustCompile(`cron: "(\S+) (\S+) (\S+) (\S+) (\S+)" # (\w+)`)

// The plan, §8: chaos each week, dependencies each month, capacity each quarter.
func TestDrillsAreScheduled(t *testing.T) {
	file := text(t, workflows+"drills.yml")
	found := make(map[string]string)
	for _, m := range fields.FindAllStringSubmatch(file, -1) {
		when := "other"
		switch {
		case m[3] == "*" && m[4] == "*" && m[5] != "*":
			when = "weekly"
		case m[3] != "*" && m[4] == "*" && m[5] == "*":
			when = "monthly"
		case m[3] != "*" && m[4] == "1,4,7,10" && m[5] == "*":
			when = "quarterly"
		}
		found[m[6]] = when
		// The job's condition repeats its schedule, word by word.
		if cron := strings.Join(m[1:6], " "); strings.Count(file, cron) != 2 {
			t.Errorf("the schedule %q of %s belongs to no job", cron, m[6])
		}
	}
	for drill, want := range map[string]string{"chaos": "weekly", "dependencies": "monthly", "scale": "quarterly"} {
		if found[drill] != want {
			t.Errorf("%s is %q, want %s", drill, found[drill], want)
		}
	}
}

// copyTree returns a copy of what promotion reads and writes, with a verifier
// that knows one image.
func copyTree(t *testing.T, signed string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"deploy/kubernetes", ".tools"} {
		if err := os.CopyFS(filepath.Join(root, dir), os.DirFS("../../"+dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(root, "caddyfiles"), os.DirFS("../../caddyfiles")); err != nil {
		t.Fatal(err)
	}
	verifier := "#!/bin/sh\n[ \"$1\" = '" + signed + "' ] || { echo \"$1: no signatures found\" >&2; exit 1; }\n"
	if err := os.WriteFile(filepath.Join(root, ".tools", "verify-image.sh"), []byte(verifier), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestPromotion: a digest reaches one overlay and no other, production only
// after staging, and never without a signature. (The signature itself is checked
// with real keys and a real registry by TestSignedImagesOnly.)
func TestPromotion(t *testing.T) {
	image := "ghcr.io/example/sallyport@sha256:" + strings.Repeat("ab", 32)
	root := copyTree(t, image)
	promote := func(overlay, image string) (string, error) {
		out, err := exec.Command(filepath.Join(root, ".tools/promote.sh"), overlay, image).CombinedOutput()
		return string(out), err
	}
	runsNow := func(overlay string) any {
		d := find(t, render(t, root+"/deploy/kubernetes/overlays/"+overlay), "Deployment", "sallyport")
		return d.at("spec", "template", "spec", "containers", 0, "image")
	}
	before := runsNow("production")
	for overlay, bad := range map[string]string{
		"staging":    "ghcr.io/example/sallyport@sha256:" + strings.Repeat("cd", 32),
		"production": image,
		"elsewhere":  image,
	} {
		if out, err := promote(overlay, bad); err == nil {
			t.Errorf("promote %s %s is accepted:\n%s", overlay, bad, out)
		}
	}
	if out, err := promote("staging", image); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := runsNow("staging"); got != image {
		t.Errorf("staging runs %v, want %s", got, image)
	}
	if got := runsNow("production"); got != before {
		t.Errorf("production runs %v after a promotion to staging", got)
	}
	for _, overlay := range []string{"canary", "production"} {
		if out, err := promote(overlay, image); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if got := runsNow("canary-analysis"); got != image {
		t.Errorf("the analysed canary runs %v, want %s", got, image)
	}
}
