package deploy

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func readECS(t *testing.T, name string) object {
	t.Helper()
	o := make(object)
	if err := yaml.UnmarshalStrict([]byte(text(t, "../../deploy/ecs/"+name)), &o); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return o
}

// TestECSTask checks that the task is hardened, outlives its drain, and gets its
// values from the Parameter Store and its secrets from Secrets Manager.
func TestECSTask(t *testing.T) {
	task := readECS(t, "task-definition.json")
	gateway := func(steps ...any) any { return task.at(append([]any{"containerDefinitions", 1}, steps...)...) }
	image, _ := gateway("image").(string)
	stop, _ := gateway("stopTimeout").(float64)
	for what, holds := range map[string]bool{
		"runs on Fargate":         task.at("requiresCompatibilities", 0) == "FARGATE" && task.at("networkMode") == "awsvpc",
		"is pinned to a digest":   digest.MatchString(image),
		"runs as 65532":           gateway("user") == "65532:65532",
		"has a read-only root":    gateway("readonlyRootFilesystem") == true,
		"drops every capability":  gateway("linuxParameters", "capabilities", "drop", 0) == "ALL",
		"asks the gateway itself": gateway("healthCheck", "command", 1) == "/usr/bin/sallyport",
		"outlives the drain":      stop >= 45,
		"has room for the spool":  task.at("ephemeralStorage", "sizeInGiB") != nil,
	} {
		if !holds {
			t.Errorf("it is not so that the task %s", what)
		}
	}
	secret := []string{"REDIS_URL", "REDIS_PASSWORD", "AUDIT_EVENT_SINK_TOKEN"}
	given := make(map[string]bool)
	refs, _ := gateway("secrets").([]any)
	for _, r := range refs {
		ref := object(r.(map[string]any))
		name, from := ref["name"].(string), ref["valueFrom"].(string)
		given[name] = true
		want := "arn:aws:ssm:"
		if slices.Contains(secret, name) {
			want = "arn:aws:secretsmanager:"
		}
		if !strings.HasPrefix(from, want) {
			t.Errorf("%s comes from %s, want %s…", name, from, want)
		}
	}
	plain, _ := gateway("environment").([]any)
	for _, e := range plain {
		name := e.(map[string]any)["name"].(string)
		given[name] = true
		if slices.Contains(secret, name) {
			t.Errorf("%s is written into the task", name)
		}
	}
	production := templates + "production.env"
	for name := range template(t, production) {
		active := strings.Contains(text(t, production), "\n"+name+"=")
		if active && !given[strings.TrimSuffix(name, "_FILE")] {
			t.Errorf("the task does not get %s, which production.env sets", name)
		}
	}
	for name := range given {
		if name != "GOMEMLIMIT" && !read(t, "production")[name] && !slices.Contains(own, name) && !strings.HasPrefix(name, "OTEL_") {
			t.Errorf("the task gets %s, which nothing reads", name)
		}
	}
}

// TestECSService checks private subnets in three zones, no gap in a rollout, and
// the plan's targets of the autoscaling.
func TestECSService(t *testing.T) {
	service := readECS(t, "service.json")
	subnets, _ := service.at("networkConfiguration", "awsvpcConfiguration", "subnets").([]any)
	if len(subnets) != 3 || service.at("networkConfiguration", "awsvpcConfiguration", "assignPublicIp") != "DISABLED" {
		t.Errorf("subnets %v, want three private ones and no public address", subnets)
	}
	if service.at("deploymentConfiguration", "minimumHealthyPercent") != 100.0 || service.at("deploymentConfiguration", "deploymentCircuitBreaker", "rollback") != true {
		t.Error("a rollout may take tasks away before new ones are healthy, or is not rolled back")
	}
	scaling := readECS(t, "autoscaling.json")
	for i, want := range []float64{60, 0.2} {
		if got := scaling.at("policies", i, "TargetTrackingScalingPolicyConfiguration", "TargetValue"); got != want {
			t.Errorf("policy %d has the target %v, want %v", i, got, want)
		}
	}
	h := find(t, production(t), "HorizontalPodAutoscaler", "sallyport")
	if scaling.at("target", "MinCapacity") != float64(h.at("spec", "minReplicas").(int)) {
		t.Error("ECS and Kubernetes have different least sizes")
	}
}
