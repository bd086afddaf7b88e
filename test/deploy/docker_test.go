package deploy

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const docker = "../../docker/"

// lint reads a Dockerfile as the builder does, with all of its checks.
func lint(t *testing.T, source []byte) (stages []instructions.Stage, complaints []string) {
	t.Helper()
	result, err := parser.Parse(bytes.NewReader(source))
	if err != nil {
		return nil, []string{err.Error()}
	}
	for _, w := range result.Warnings {
		complaints = append(complaints, w.Short)
	}
	stages, _, err = instructions.Parse(result.AST, linter.New(&linter.Config{
		Warn: func(rule, _, _, message string, _ []parser.Range) { complaints = append(complaints, rule+": "+message) },
	}))
	if err != nil {
		complaints = append(complaints, err.Error())
	}
	return stages, complaints
}

// TestDockerfile checks what the builder checks, and what the last stage promises.
func TestDockerfile(t *testing.T) {
	source, err := os.ReadFile(docker + "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, complaints := lint(t, source)
	for _, c := range complaints {
		t.Error(c)
	}
	if len(stages) != 2 || stages[1].BaseName != "scratch" {
		t.Fatalf("%d stages, want a builder and one from scratch", len(stages))
	}
	last := make(map[string]string)
	for _, c := range stages[1].Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			last["user"] = c.User
		case *instructions.HealthCheckCommand:
			last["health"] = strings.Join(c.Health.Test, " ")
		case *instructions.EntrypointCommand:
			last["entrypoint"] = strings.Join(c.CmdLine, " ")
			if c.PrependShell {
				t.Error("ENTRYPOINT needs a shell, and there is none")
			}
		case *instructions.LabelCommand:
			for _, l := range c.Labels {
				last[l.Key] = l.Value
			}
		case *instructions.RunCommand:
			t.Errorf("RUN in an image without a shell: %s", c)
		}
	}
	for what, want := range map[string]string{
		"user":       `^[0-9]+:[0-9]+$`,
		"health":     `^CMD /usr/bin/sallyport health$`,
		"entrypoint": `^/usr/bin/sallyport$`,

		"org.opencontainers.image.source":   `.`,
		"org.opencontainers.image.revision": `.`,
		"org.opencontainers.image.version":  `.`,
		"org.opencontainers.image.licenses": `^Apache-2.0$`,
	} {
		if got := strings.Trim(last[what], `"`); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s is %q, want %s", what, got, want)
		}
	}
}

// A mistake must be found, or the check proves nothing.
func TestDockerfileMistakesAreFound(t *testing.T) {
	for name, source := range map[string]string{
		"unknown instruction": "FROM scratch\nCOPPY a b\n",
		"name in capitals":    "FROM scratch AS Build\n",
		"deprecated":          "FROM scratch\nMAINTAINER somebody\n",
	} {
		if _, complaints := lint(t, []byte(source)); len(complaints) == 0 {
			t.Errorf("%s passes", name)
		}
	}
}

// TestCompose has docker-compose read the stack alone and with its overlays.
// Ports are published on loopback only, and nothing is privileged.
func TestCompose(t *testing.T) {
	stack, chaos, rollout := docker+"docker-compose.yml", docker+"compose.chaos.yml", docker+"compose.rollout.yml"
	merged := tool(t, "docker-compose", "-f", stack, "-f", chaos, "-f", rollout, "config")
	tool(t, "docker-compose", "-f", stack, "config", "--quiet")
	for _, m := range regexp.MustCompile(`(?m)^ +- (\S+:\d+:\d+)`).FindAllStringSubmatch(merged, -1) {
		if !strings.HasPrefix(m[1], "127.0.0.1:") {
			t.Errorf("port %s is published beyond this machine", m[1])
		}
	}
	if strings.Contains(merged, "privileged") || strings.Contains(merged, "docker.sock") {
		t.Error("a service is privileged or has the engine's socket")
	}
	tool(t, "docker-compose", "-f", stack, "-f", rollout, "config", "--quiet")
	if !strings.Contains(merged, "/etc/rollout/Caddyfile") {
		t.Error("the rollout overlay does not run its Caddyfile")
	}
	if !strings.Contains(merged, "REDIS_URL: redis://toxiproxy:6379") {
		t.Error("the chaos overlay does not stand between the gateway and Redis")
	}
	tool(t, "promtool", "check", "config", "--syntax-only", docker+"prometheus.yaml")
}
