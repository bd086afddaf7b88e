package deploy

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func production(t *testing.T) []object { return render(t, kubernetes+"/overlays/production") }

// The plan, §5: maxSurge 1 and maxUnavailable 0, probes on the two health paths.
func TestRolloutAndProbes(t *testing.T) {
	d := find(t, production(t), "Deployment", "sallyport")
	if got := d.at("spec", "strategy", "rollingUpdate", "maxSurge"); got != 1 {
		t.Errorf("maxSurge is %v, want 1", got)
	}
	if got := d.at("spec", "strategy", "rollingUpdate", "maxUnavailable"); got != 0 {
		t.Errorf("maxUnavailable is %v, want 0", got)
	}
	for probe, path := range map[string]string{
		"livenessProbe": "/health/live", "startupProbe": "/health/live", "readinessProbe": "/health/ready",
	} {
		got := d.at("spec", "template", "spec", "containers", 0, probe, "httpGet")
		want := map[string]any{"path": path, "port": "internal"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", probe, diff)
		}
	}
	if d.at("spec", "replicas") != nil {
		t.Error("the Deployment sets replicas, which its autoscaler owns")
	}
}

// The plan, §5: CPU 60 %, p95 latency under 200 ms.
func TestAutoscaler(t *testing.T) {
	h := find(t, production(t), "HorizontalPodAutoscaler", "sallyport")
	if got := h.at("spec", "metrics", 0, "resource", "target", "averageUtilization"); got != 60 {
		t.Errorf("CPU target is %v, want 60", got)
	}
	if got := h.at("spec", "metrics", 1, "pods", "target", "averageValue"); got != "200m" {
		t.Errorf("p95 target is %v, want 200m", got)
	}
	if got := h.at("spec", "minReplicas"); got != 3 {
		t.Errorf("minReplicas is %v, want 3: one for each zone", got)
	}
}

// The plan, §5: canary at 5 % of the traffic.
func TestCanaryWeights(t *testing.T) {
	r := find(t, render(t, kubernetes+"/overlays/canary"), "HTTPRoute", "sallyport")
	weights := map[any]any{}
	refs, _ := r.at("spec", "rules", 0, "backendRefs").([]any)
	for _, ref := range refs {
		m := ref.(map[string]any)
		weights[m["name"]] = m["weight"]
	}
	if diff := cmp.Diff(map[any]any{"sallyport": 95, "sallyport-canary": 5}, weights); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The candidate is another image than the stable version, and pinned by itself.
func TestCanaryRunsTheCandidate(t *testing.T) {
	objects := render(t, kubernetes+"/overlays/canary")
	image := func(name string) any {
		return find(t, objects, "Deployment", name).at("spec", "template", "spec", "containers", 0, "image")
	}
	if image("sallyport") == image("sallyport-canary") {
		t.Errorf("both tracks run %v", image("sallyport"))
	}
}

// The two tracks must not answer for each other: a Service selects one of them.
func TestCanaryTracksAreApart(t *testing.T) {
	objects := render(t, kubernetes+"/overlays/canary")
	for name, track := range map[string]string{"sallyport": "stable", "sallyport-canary": "canary"} {
		for _, kind := range []string{"Service", "Deployment"} {
			o := find(t, objects, kind, name)
			selector := o.at("spec", "selector", "track")
			if kind == "Deployment" {
				selector = o.at("spec", "selector", "matchLabels", "track")
			}
			if selector != track {
				t.Errorf("%s %s selects track %v, want %s", kind, name, selector, track)
			}
		}
	}
}

// Argo's analysis looks for fifteen minutes at 5 %, and undoes what is bad.
func TestCanaryAnalysisTakesFifteenMinutes(t *testing.T) {
	objects := render(t, kubernetes+"/overlays/canary-analysis")
	if got := find(t, objects, "Rollout", "sallyport").at("spec", "strategy", "canary", "steps", 0, "setWeight"); got != 5 {
		t.Errorf("the first step is %v %%, want 5", got)
	}
	metrics, _ := find(t, objects, "AnalysisTemplate", "sallyport-canary").at("spec", "metrics").([]any)
	if len(metrics) == 0 {
		t.Fatal("the analysis has no metrics")
	}
	for _, m := range metrics {
		m := m.(map[string]any)
		if m["interval"] != "1m" || m["count"] != 15 {
			t.Errorf("metric %v looks %v times each %v, want 15 times each 1m", m["name"], m["count"], m["interval"])
		}
	}
}

var digest = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)

// Every pod is pinned to a digest, runs without privileges and has bounds.
func TestPodsAreHardened(t *testing.T) {
	for _, dir := range overlays(t) {
		for _, o := range render(t, dir) {
			if o.kind() != "Deployment" {
				continue
			}
			pod := func(steps ...any) any { return o.at(append([]any{"spec", "template", "spec"}, steps...)...) }
			c := func(steps ...any) any { return pod(append([]any{"containers", 0}, steps...)...) }
			if image, _ := c("image").(string); !digest.MatchString(image) {
				t.Errorf("%s: image %s is not pinned to a digest", dir, image)
			}
			for what, got := range map[string]bool{
				"runs as non-root":         pod("securityContext", "runAsNonRoot") == true,
				"has a seccomp profile":    pod("securityContext", "seccompProfile", "type") == "RuntimeDefault",
				"has a read-only root":     c("securityContext", "readOnlyRootFilesystem") == true,
				"cannot gain privileges":   c("securityContext", "allowPrivilegeEscalation") == false,
				"drops every capability":   cmp.Equal(c("securityContext", "capabilities", "drop"), []any{"ALL"}),
				"mounts no service token":  pod("automountServiceAccountToken") == false,
				"requests CPU":             c("resources", "requests", "cpu") != nil,
				"limits memory":            c("resources", "limits", "memory") != nil,
				"is spread over the zones": pod("topologySpreadConstraints", 0, "topologyKey") == "topology.kubernetes.io/zone",
			} {
				if !got {
					t.Errorf("%s: it is not so that the pod %s", dir, what)
				}
			}
		}
	}
}

// Secrets are referred to and never written: no Secret object, and no value
// that looks like one in an environment.
func TestNoSecretIsWritten(t *testing.T) {
	for _, dir := range overlays(t) {
		for _, o := range render(t, dir) {
			if o.kind() == "Secret" {
				t.Errorf("%s renders the Secret %s", dir, o.name())
			}
			if o.kind() != "ConfigMap" {
				continue
			}
			data, _ := o.at("data").(map[string]any)
			for key := range data {
				secret := strings.Contains(key, "PASSWORD") || strings.Contains(key, "TOKEN") || key == "REDIS_URL"
				if secret && !strings.HasSuffix(key, "_FILE") {
					t.Errorf("%s: ConfigMap %s holds %s; name a mounted file with %s_FILE", dir, o.name(), key, key)
				}
			}
		}
	}
}

// Staging has production's size, or its load tests prove nothing.
func TestStagingIsSizedLikeProduction(t *testing.T) {
	sizes := func(overlay string) []any {
		objects := render(t, kubernetes+"/overlays/"+overlay)
		d := find(t, objects, "Deployment", "sallyport")
		return []any{
			d.at("spec", "template", "spec", "containers", 0, "resources"),
			find(t, objects, "HorizontalPodAutoscaler", "sallyport").at("spec"),
		}
	}
	if diff := cmp.Diff(sizes("production"), sizes("staging")); diff != "" {
		t.Errorf("(-production +staging):\n%s", diff)
	}
}

// Each environment runs its own Caddyfile of those in the ConfigMap, as they are
// shipped and run by tests, and the snippets that they import are there too.
func TestOverlaysCarryTheShippedCaddyfiles(t *testing.T) {
	for _, env := range []string{"dev", "staging", "production"} {
		objects := render(t, kubernetes+"/overlays/"+env)
		config := find(t, objects, "ConfigMap", "sallyport-caddyfile")
		for _, file := range []string{env + ".Caddyfile", "snippets.caddy"} {
			if diff := cmp.Diff(text(t, caddyfiles+file), config.at("data", file)); diff != "" {
				t.Errorf("%s: %s (-caddyfiles +overlay):\n%s", env, file, diff)
			}
		}
		d := find(t, objects, "Deployment", "sallyport")
		if got, want := d.at("spec", "template", "spec", "containers", 0, "args", 2), "/etc/sallyport/"+env+".Caddyfile"; got != want {
			t.Errorf("%s runs %v, want %s", env, got, want)
		}
	}
}

var delays = regexp.MustCompile(`(?m)^\t(?:shutdown_delay|grace_period) (\d+)s$`)

// The pod must not be killed while the gateway still drains and then flushes.
func TestPodOutlivesTheDrain(t *testing.T) {
	objects := production(t)
	caddyfile, _ := find(t, objects, "ConfigMap", "sallyport-caddyfile").at("data", "production.Caddyfile").(string)
	found := delays.FindAllStringSubmatch(caddyfile, -1)
	if len(found) != 2 {
		t.Fatalf("production.Caddyfile sets %d of shutdown_delay and grace_period", len(found))
	}
	drain := 0
	for _, m := range found {
		n, _ := strconv.Atoi(m[1])
		drain += n
	}
	grace, _ := find(t, objects, "Deployment", "sallyport").at("spec", "template", "spec", "terminationGracePeriodSeconds").(int)
	if grace < drain+10 {
		t.Errorf("the pod is killed after %d s, the gateway drains for %d s and needs 10 s more to flush", grace, drain)
	}
}
