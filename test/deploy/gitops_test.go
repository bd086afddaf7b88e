package deploy

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	gitops   = "../../deploy/gitops"
	policies = "../../deploy/policy"
)

// TestGitOps holds Argo CD's objects and the admission policies against their
// schemas.
func TestGitOps(t *testing.T) {
	v := schemas(t)
	for _, dir := range []string{gitops, policies + "/sigstore", policies + "/kyverno", policies + "/digests"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			objects := render(t, dir)
			if len(objects) == 0 {
				t.Fatal("nothing is rendered")
			}
			for _, o := range objects {
				check(t, v, o)
			}
		})
	}
}

// Every application follows the main branch of a repository that the project
// allows, into a namespace that it allows, from a folder that renders.
func TestApplicationsFollowGit(t *testing.T) {
	objects := render(t, gitops)
	project := find(t, objects, "AppProject", "sallyport")
	sources, _ := project.at("spec", "sourceRepos").([]any)
	destinations, _ := project.at("spec", "destinations").([]any)
	var namespaces []any
	for _, d := range destinations {
		namespaces = append(namespaces, d.(map[string]any)["namespace"])
	}
	allowed, _ := project.at("spec", "clusterResourceWhitelist").([]any)
	paths := make(map[string]string)
	for _, o := range objects {
		if o.kind() != "Application" {
			continue
		}
		namespace := o.at("spec", "destination", "namespace")
		path, _ := o.at("spec", "source", "path").(string)
		paths[o.name()] = path
		if !slices.Contains(sources, o.at("spec", "source", "repoURL")) || !slices.Contains(namespaces, namespace) {
			t.Errorf("%s comes from or goes to where the project does not allow it", o.name())
		}
		if o.at("spec", "source", "targetRevision") != "main" {
			t.Errorf("%s does not follow main", o.name())
		}
		if o.at("spec", "syncPolicy", "automated", "selfHeal") != true || o.at("spec", "syncPolicy", "automated", "prune") != true {
			t.Errorf("%s leaves what differs from Git", o.name())
		}
		for _, r := range render(t, "../../"+path) {
			if ns := r.at("metadata", "namespace"); ns != nil && ns != namespace {
				t.Errorf("%s: %s %s is for the namespace %v", o.name(), r.kind(), r.name(), ns)
			}
			if r.at("metadata", "namespace") != nil {
				continue
			}
			group, _, found := strings.Cut(r["apiVersion"].(string), "/")
			if !found {
				group = ""
			}
			if !slices.ContainsFunc(allowed, func(a any) bool {
				return a.(map[string]any)["group"] == group && a.(map[string]any)["kind"] == r.kind()
			}) {
				t.Errorf("%s brings the %s %s, which the project does not allow", o.name(), r.kind(), r.name())
			}
		}
	}
	for name, path := range map[string]string{
		"sallyport-dev": "overlays/dev", "sallyport-staging": "overlays/staging",
		"sallyport-production": "overlays/canary-analysis", "sallyport-policy": "policy/sigstore",
	} {
		if !strings.HasSuffix(paths[name], path) {
			t.Errorf("%s follows %q, want …%s", name, paths[name], path)
		}
	}
}

// What a controller moves while a version is judged must not be moved back.
func TestArgoLeavesTheRolloutAlone(t *testing.T) {
	app := find(t, render(t, gitops), "Application", "sallyport-production")
	ignored := make(map[string]bool)
	list, _ := app.at("spec", "ignoreDifferences").([]any)
	for _, d := range list {
		o := object(d.(map[string]any))
		ignored[o.kind()] = true
	}
	objects := render(t, kubernetes+"/overlays/canary-analysis")
	find(t, objects, "Rollout", "sallyport")
	for _, kind := range []string{"HTTPRoute", "Deployment", "Service"} {
		if !ignored[kind] {
			t.Errorf("Argo CD would undo what the rollout does to the %s", kind)
		}
	}
}

// The policies name the image that the overlays run and the workflow that signs
// it, and the namespaces that run it take part.
func TestPoliciesNameWhatRuns(t *testing.T) {
	image, _ := find(t, production(t), "Deployment", "sallyport").at("spec", "template", "spec", "containers", 0, "image").(string)
	name, _, _ := strings.Cut(image, "@")
	cip := find(t, render(t, policies+"/sigstore"), "ClusterImagePolicy", "sallyport-signed")
	ivp := find(t, render(t, policies+"/kyverno"), "ImageValidatingPolicy", "sallyport-signed")
	for what, glob := range map[string]any{"sigstore": cip.at("spec", "images", 0, "glob"), "kyverno": ivp.at("spec", "matchImageReferences", 0, "glob")} {
		if strings.TrimRight(glob.(string), "*") != name {
			t.Errorf("%s: the policy is for %v, the overlays run %s", what, glob, name)
		}
	}
	signer := `^https://github\.com/sallyport-gateway/sallyport/\.github/workflows/release\.yml@refs/tags/v[0-9.]+$`
	for what, got := range map[string]any{
		"sigstore": cip.at("spec", "authorities", 0, "keyless", "identities", 0, "subjectRegExp"),
		"kyverno":  ivp.at("spec", "attestors", 0, "cosign", "keyless", "identities", 0, "subjectRegExp"),
	} {
		if got != signer {
			t.Errorf("%s trusts %v, want %s", what, got, signer)
		}
	}
	if !strings.Contains(text(t, "../../.github/workflows/release.yml"), "make sign ") {
		t.Error("release.yml signs nothing")
	}
	for _, overlay := range []string{"staging", "production"} {
		for _, o := range render(t, kubernetes+"/overlays/"+overlay) {
			if o.kind() == "Namespace" && o.at("metadata", "labels", "policy.sigstore.dev/include") != "true" {
				t.Errorf("%s: the namespace takes no part in the policy", overlay)
			}
		}
	}
}
