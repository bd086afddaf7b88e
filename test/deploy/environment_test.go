package deploy

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	caddyfiles = "../../caddyfiles/"
	templates  = "../../docker/env/"
)

var (
	assignment  = regexp.MustCompile(`(?m)^#? ?([A-Z][A-Z0-9_]*)=(.*)$`)
	inCaddyfile = regexp.MustCompile(`\{(?:\$|env\.)([A-Z][A-Z0-9_]*)`)
	inDocs      = regexp.MustCompile("`([A-Z][A-Z0-9_]*)`")
)

// own are the variables that the gateway reads without being told to, beside
// those of OpenTelemetry.
var own = []string{"ENABLE_TELEMETRY", "SERVICE_NAME", "ENABLE_AUDIT_EVENTS"}

// template returns the variables of a .env file, those commented out included.
func template(t *testing.T, file string) map[string]string {
	t.Helper()
	vars := make(map[string]string)
	for _, m := range assignment.FindAllStringSubmatch(text(t, file), -1) {
		vars[m[1]] = m[2]
	}
	return vars
}

// read returns the variables that an environment's Caddyfile reads.
func read(t *testing.T, env string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	shared := text(t, caddyfiles+"snippets.caddy")
	if env == "local" || env == "dev" {
		// They come in without TLS.
		shared = regexp.MustCompile(`(?s)\(ENTRY=.*?\n\}\n`).ReplaceAllString(shared, "")
	}
	if env == "local" {
		shared = regexp.MustCompile(`(?s)\(REDIS_FORM=.*?\n\}\n`).ReplaceAllString(shared, "")
	}
	for _, m := range inCaddyfile.FindAllStringSubmatch(shared+text(t, caddyfiles+env+".Caddyfile"), -1) {
		names[m[1]] = true
	}
	return names
}

// TestTemplatesNameWhatIsRead compares each environment's template with its
// Caddyfile: whatever is read is in it, and what is in it is read.
func TestTemplatesNameWhatIsRead(t *testing.T) {
	for _, env := range []string{"local", "dev", "staging", "production"} {
		vars, wanted := template(t, templates+env+".env"), read(t, env)
		for name := range wanted {
			if _, plain := vars[name]; !plain && vars[name+"_FILE"] == "" {
				t.Errorf("%s.env does not name %s, which %s.Caddyfile reads", env, name, env)
			}
		}
		for name := range vars {
			known := wanted[name] || wanted[strings.TrimSuffix(name, "_FILE")] || slices.Contains(own, name) || strings.HasPrefix(name, "OTEL_")
			if !known {
				t.Errorf("%s.env names %s, which nothing reads", env, name)
			}
		}
		for _, name := range own {
			if _, set := vars[name]; !set {
				t.Errorf("%s.env does not set %s", env, name)
			}
		}
	}
}

// Every variable of a template has words above it that say what it is, and no
// template but the local one holds a secret.
func TestTemplatesAreDocumented(t *testing.T) {
	files, _ := filepath.Glob(templates + "*.env")
	for _, f := range files {
		explained := false
		for line := range strings.Lines(text(t, f)) {
			line = strings.TrimSpace(line)
			m := assignment.FindStringSubmatch(line)
			switch {
			case line == "":
				explained = false
			case m == nil:
				explained = strings.HasPrefix(line, "# ")
			case !explained:
				t.Errorf("%s: nothing is said above %s", f, m[1])
			}
			if m != nil && filepath.Base(f) != "local.env" && (strings.HasSuffix(m[1], "PASSWORD") || strings.HasSuffix(m[1], "TOKEN") || m[1] == "REDIS_URL") {
				t.Errorf("%s sets %s; name a file with %s_FILE", f, m[1], m[1])
			}
		}
	}
}

// The ConfigMap has the variables of the template, and the page of both.
func TestTheClusterHasTheTemplatesVariables(t *testing.T) {
	active := func(vars map[string]string, file string) []string {
		var names []string
		for name := range vars {
			if strings.Contains("\n"+text(t, file), "\n"+name+"=") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	production, cluster := templates+"production.env", kubernetes+"/base/gateway.env"
	if diff := cmp.Diff(active(template(t, production), production), active(template(t, cluster), cluster)); diff != "" {
		t.Errorf("variables (-docker/env/production.env +deploy/kubernetes/base/gateway.env):\n%s", diff)
	}
	documented := make(map[string]bool)
	for _, m := range inDocs.FindAllStringSubmatch(text(t, "../../docs/environments.md"), -1) {
		documented[m[1]] = true
	}
	all := make(map[string]bool)
	for _, env := range []string{"local", "dev", "staging", "production"} {
		for name := range template(t, templates+env+".env") {
			all[strings.TrimSuffix(name, "_FILE")] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !documented[name] {
			t.Errorf("docs/environments.md does not speak of %s", name)
		}
	}
}
