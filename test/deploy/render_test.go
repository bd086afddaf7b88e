// Package deploy checks what is deployed: every overlay is rendered as kubectl
// would, each object is held against its schema, and the promises of the plan
// against the rendered objects.
package deploy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/yannh/kubeconform/pkg/validator"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const kubernetes = "../../deploy/kubernetes"

var update = flag.Bool("update", false, "rewrite the rendered overlays")

// object is one rendered Kubernetes object.
type object map[string]any

func (o object) kind() string { return fmt.Sprint(o["kind"]) }

func (o object) name() string { return fmt.Sprint(o.at("metadata", "name")) }

// at walks into the object; a step is a member's name or a list's index.
func (o object) at(steps ...any) any {
	var v any = map[string]any(o)
	for _, s := range steps {
		switch s := s.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[s]
		case int:
			l, _ := v.([]any)
			if s >= len(l) {
				return nil
			}
			v = l[s]
		}
	}
	return v
}

func overlays(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(kubernetes + "/overlays/*/kustomization.yaml")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no overlays: %v", err)
	}
	for i, d := range dirs {
		dirs[i] = filepath.Dir(d)
	}
	return dirs
}

func render(t *testing.T, dir string) []object {
	t.Helper()
	res, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("render %s: %v", dir, err)
	}
	var objects []object
	for _, r := range res.Resources() {
		m, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, m)
	}
	return objects
}

func find(t *testing.T, objects []object, kind, name string) object {
	t.Helper()
	for _, o := range objects {
		if o.kind() == kind && o.name() == name {
			return o
		}
	}
	t.Fatalf("no %s named %s is rendered", kind, name)
	return nil
}

// TestRendered keeps what each overlay renders to, so that a change of a base
// shows in review what it does to production.
func TestRendered(t *testing.T) {
	for _, dir := range overlays(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var b bytes.Buffer
			for _, o := range render(t, dir) {
				if o.kind() == "ConfigMap" && strings.Contains(o.name(), "caddyfile") {
					continue // its files are in the overlay, as they are
				}
				text, err := yaml.Marshal(o)
				if err != nil {
					t.Fatal(err)
				}
				b.WriteString("---\n")
				b.Write(text)
			}
			file := filepath.Join("testdata", "rendered", filepath.Base(dir)+".yaml")
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// TestSchemas holds every object, and every component on its own, against its
// schema; a kind without a schema fails.
func TestSchemas(t *testing.T) {
	v := schemas(t)
	dirs := append(overlays(t), componentOverlays(t)...)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			for _, o := range render(t, dir) {
				check(t, v, o)
			}
		})
	}
}

func schemas(t *testing.T) validator.Validator {
	t.Helper()
	v, err := validator.New([]string{
		"testdata/schemas/{{.ResourceKind}}{{.KindSuffix}}.json",
	}, validator.Opts{Strict: true, KubernetesVersion: "master"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func check(t *testing.T, v validator.Validator, o object) {
	t.Helper()
	text, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range v.Validate(o.name(), readCloser{bytes.NewReader(text)}) {
		if res.Status != validator.Valid {
			t.Errorf("%s %s: %v %v", o.kind(), o.name(), res.Err, res.ValidationErrors)
		}
	}
}

// A misspelt field must be found, or the schemas prove nothing.
func TestSchemasFindMistakes(t *testing.T) {
	v := schemas(t)
	objects := render(t, kubernetes+"/overlays/production")
	d := find(t, objects, "Deployment", "sallyport")
	container := d.at("spec", "template", "spec", "containers", 0).(map[string]any)
	container["readynessProbe"] = container["readinessProbe"]
	text, _ := yaml.Marshal(d)
	for _, res := range v.Validate("broken", readCloser{bytes.NewReader(text)}) {
		if res.Status == validator.Valid {
			t.Error("a Deployment with a readynessProbe passes its schema")
		}
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// componentOverlays writes an overlay of the base and one component each, for
// components that no shipped overlay uses.
func componentOverlays(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(kubernetes + "/components/*/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	home, err := filepath.Abs(kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, f := range files {
		name := filepath.Base(filepath.Dir(f))
		if strings.HasPrefix(name, "rollout-") {
			continue // they patch a route, and stand in overlays of their own
		}
		// Kustomize resolves below one root only, so the copy holds it all.
		root := t.TempDir()
		if err := os.CopyFS(root, os.DirFS(home)); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(root, "overlays", "only-"+name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text := "resources: [../../base]\ncomponents: [../../components/" + name + "]\n"
		if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}
