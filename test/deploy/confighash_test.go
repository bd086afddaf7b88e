package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const gitHash = `# Written by TestGitsConfigurationIsNamed in test/deploy, with -update: the number that
# sallyport_config_hash shows where the Caddyfile and the variables of this overlay are in force.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sallyport-config-hash
spec:
  groups:
    - name: sallyport-config-hash
      rules:
        - record: sallyport:config_hash:git
          expr: vector(%s)
          labels: {job: %s}
`

// TestGitsConfigurationIsNamed keeps the number that each overlay records equal
// to that of the configuration which its ConfigMaps make. `make build` makes the
// gateway that adapts it.
func TestGitsConfigurationIsNamed(t *testing.T) {
	binary, err := filepath.Abs("../../bin/sallyport")
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{"staging", "production"} {
		t.Run(env, func(t *testing.T) {
			objects := render(t, kubernetes+"/overlays/"+env)
			dir := t.TempDir()
			var job string
			cmd := exec.Command(binary, "config", "hash", "--config", filepath.Join(dir, env+".Caddyfile"))
			for _, o := range objects {
				if o.kind() == "Deployment" {
					job, _ = o.at("metadata", "namespace").(string)
				}
				if o.kind() != "ConfigMap" {
					continue
				}
				data, _ := o.at("data").(map[string]any)
				for name, value := range data {
					if strings.Contains(o.name(), "caddyfile") {
						if err := os.WriteFile(filepath.Join(dir, name), []byte(value.(string)), 0o600); err != nil {
							t.Fatal(err)
						}
					} else {
						cmd.Env = append(cmd.Env, name+"="+value.(string))
					}
				}
			}
			cmd.Env = append(cmd.Env, "HOME="+dir)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %v (make build makes bin/sallyport)", cmd, err)
			}
			number := strings.Fields(string(out))[1]
			want, file := fmt.Sprintf(gitHash, number, job), kubernetes+"/overlays/"+env+"/config-hash.yaml"
			if *update {
				if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, text(t, file)); diff != "" {
				t.Errorf("%s (-what the overlay loads +file); run the test with -update:\n%s", file, diff)
			}
		})
	}
}
