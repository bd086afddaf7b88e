package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeKubectl writes down how it is called, and answers as a cluster of three
// to twelve gateways would. With FAIL it fails for what that says.
const fakeKubectl = `#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
*"$FAIL"*) exit 1 ;;
"get hpa"*minReplicas*) echo 3 ;;
"get hpa"*maxReplicas*) echo 12 ;;
"get pods"*) printf 'pod/sallyport-1\npod/sallyport-2\n' ;;
esac
`

// The drills' own scripts: what they do, in which order, and that they leave
// things as they were when they fail.
func TestDrillScripts(t *testing.T) {
	objects := render(t, kubernetes+"/overlays/staging")
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(fakeKubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, job, fail string
		ends            bool
		calls           []string
	}{
		{"a pod is taken away, then all are restarted", "sallyport-drill-weekly", "never", true, []string{
			"rollout status deployment/sallyport", "get pods --selector app.kubernetes.io/name=sallyport", "delete pod/sallyport-1",
			"rollout status", "rollout restart deployment/sallyport", "rollout status",
		}},
		{"gateways that do not come back are told", "sallyport-drill-weekly", "rollout restart", false, []string{
			"rollout status", "get pods", "delete pod/sallyport-1", "rollout status", "rollout restart",
		}},
		{"nothing is taken from gateways that are not ready", "sallyport-drill-weekly", "rollout status", false, []string{"rollout status"}},
		{"the floor is raised and put back", "sallyport-drill-quarterly", "never", true, []string{
			"get hpa", "get hpa", `{"spec":{"minReplicas":12}}`, "wait deployment/sallyport", `{"spec":{"minReplicas":3}}`,
		}},
		{"the floor is put back where there is no room", "sallyport-drill-quarterly", "wait deployment", false, []string{
			"get hpa", "get hpa", `{"spec":{"minReplicas":12}}`, "wait deployment/sallyport", `{"spec":{"minReplicas":3}}`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			job := find(t, objects, "CronJob", c.job)
			container := []any{"spec", "jobTemplate", "spec", "template", "spec", "containers", 0}
			args, _ := job.at(append(container, "args")...).([]any)
			if len(args) != 1 {
				t.Fatalf("the job has the arguments %v, want its script", args)
			}
			calls := filepath.Join(t.TempDir(), "calls")
			cmd := exec.Command("/bin/sh", "-euc", args[0].(string))
			cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "CALLS=" + calls, "FAIL=" + c.fail}
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ends {
				t.Errorf("the script ends with %v:\n%s", err, out)
			}
			made := strings.Split(strings.TrimSpace(text(t, calls)), "\n")
			if len(made) != len(c.calls) {
				t.Fatalf("kubectl was called %d times, want %d:\n%s", len(made), len(c.calls), strings.Join(made, "\n"))
			}
			for i, want := range c.calls {
				if !strings.Contains(made[i], want) {
					t.Errorf("call %d is %q, want %q in it", i+1, made[i], want)
				}
			}
		})
	}
}

// The drills may do what they do to the gateways, and nothing else.
func TestDrillsAreConfined(t *testing.T) {
	objects := render(t, kubernetes+"/overlays/staging")
	for _, name := range []string{"sallyport-drill-weekly", "sallyport-drill-quarterly"} {
		pod := find(t, objects, "CronJob", name).at("spec", "jobTemplate", "spec", "template", "spec").(map[string]any)
		c := object(pod).at("containers", 0).(map[string]any)
		if image, _ := c["image"].(string); !digest.MatchString(image) {
			t.Errorf("%s: image %s is not pinned to a digest", name, image)
		}
		if pod["serviceAccountName"] != "sallyport-drills" || object(pod).at("securityContext", "runAsNonRoot") != true ||
			object(c).at("securityContext", "readOnlyRootFilesystem") != true {
			t.Errorf("%s is not confined: %v", name, pod)
		}
	}
	role := find(t, objects, "Role", "sallyport-drills")
	rules, _ := role.at("rules").([]any)
	for _, r := range rules {
		for _, verb := range r.(map[string]any)["verbs"].([]any) {
			if verb == "*" || verb == "create" || verb == "update" {
				t.Errorf("the drills may %s %v", verb, r)
			}
		}
	}
	for _, production := range render(t, kubernetes+"/overlays/production") {
		if production.kind() == "CronJob" {
			t.Errorf("production has the drill %s", production.name())
		}
	}
}
