package parity

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// block is one fenced block of a page.
type block struct {
	page, lang, text string
	line             int
	heading          string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// blocks returns the fenced blocks in README.md, CONTRIBUTING.md and docs.
func blocks(t *testing.T, lang string) (found []block) {
	t.Helper()
	for _, page := range pages(t) {
		var open *block
		heading := ""
		for i, line := range strings.Split(read(t, page), "\n") {
			fence := strings.HasPrefix(line, "```")
			switch {
			case fence && open == nil:
				open = &block{page: page, lang: strings.TrimPrefix(line, "```"), line: i + 1, heading: heading}
			case fence:
				if open.lang == lang {
					found = append(found, *open)
				}
				open = nil
			case open != nil:
				open.text += line + "\n"
			case strings.HasPrefix(line, "#"):
				heading = strings.TrimLeft(line, "# ")
			}
		}
		if open != nil {
			t.Errorf("%s: the fence is never closed", open)
		}
	}
	return found
}

func pages(t *testing.T) (all []string) {
	t.Helper()
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		if _, err := os.Stat(root + name); err == nil {
			all = append(all, name)
		}
	}
	err := filepath.WalkDir(root+"docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			all = append(all, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// readings are what a block on a page may be: a whole Caddyfile, part of a site,
// or part of the global options. An example may speak of the issuer `main`
// without showing it once more.
var readings = []func(text string) string{
	func(text string) string { return text },
	func(text string) string { return "{\n" + issuer + "}\n\n" + text },
	func(text string) string { return strings.Replace(text, "{\n", "{\n"+issuer, 1) },
	func(text string) string { return "http://:8080 {\n" + text + "}\n" },
	func(text string) string { return "{\n" + issuer + "}\n\nhttp://:8080 {\n" + text + "}\n" },
	func(text string) string { return "{\n" + issuer + flagsOption + "}\n\nhttp://:8080 {\n" + text + "}\n" },
	func(text string) string { return "{\n" + text + "}\n" },
}

// flagsOption is the option behind examples that only use flags.
const flagsOption = "\tflags {\n\t\tsource file ../../modules/flags/testdata/flags.yaml\n\t}\n"

const issuer = "\tissuer main {\n\t\tissuer https://idp.example.com/\n\t\tjwks https://idp.example.com/keys\n\t\taudience orders-api\n\t}\n"

// TestCaddyfileExamples adapts and validates every Caddyfile on a page. Under
// the heading Syntax stand descriptions, not examples.
func TestCaddyfileExamples(t *testing.T) {
	mounted := certificate(t)
	for _, b := range blocks(t, "caddyfile") {
		if b.heading == "Syntax" {
			continue
		}
		t.Run(b.String(), func(t *testing.T) {
			setEnvironment(t, b.text)
			var errs []string
			for i, read := range readings {
				config, warnings, err := adapt(strings.ReplaceAll(read(b.text), "/run/secrets/tls", mounted))
				if err != nil {
					errs = append(errs, err.Error())
					continue
				}
				for _, w := range warnings {
					if i == 0 && strings.Contains(w.Message, "not formatted") {
						t.Errorf("%s", w)
					}
				}
				if _, err := provision(t, config); err != nil {
					t.Errorf("validate: %v", err)
				}
				return
			}
			t.Errorf("it is no Caddyfile, no part of a site and no global option:\n%s", strings.Join(errs, "\n"))
		})
	}
}

// issuers is the app behind the issuer that examples speak of.
var issuers = map[string]any{"issuers": map[string]any{"main": map[string]any{
	"issuer": "https://idp.example.com/", "audience": []string{"orders-api"},
	"jwks": "https://idp.example.com/keys",
}}}

// TestJSONExamples validates every JSON block on a page that is configuration:
// a whole one, or one handler.
func TestJSONExamples(t *testing.T) {
	for _, b := range blocks(t, "json") {
		t.Run(b.String(), func(t *testing.T) {
			var value map[string]any
			if err := json.Unmarshal([]byte(b.text), &value); err != nil {
				t.Fatal(err)
			}
			if value["handler"] != nil {
				value = map[string]any{"apps": map[string]any{"sallyport_issuers": issuers, "http": map[string]any{"servers": map[string]any{"example": map[string]any{
					"listen": []string{":8080"},
					"routes": []any{map[string]any{"handle": []any{value}}},
				}}}}}
			}
			if value["apps"] == nil {
				return // a document, not a configuration
			}
			setEnvironment(t, b.text)
			config, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := provision(t, config); err != nil {
				t.Errorf("validate: %v", err)
			}
		})
	}
}

var variableName = regexp.MustCompile(`\{(?:env\.|\$)([A-Za-z_][A-Za-z0-9_]*)\}`)

// setEnvironment gives each variable that text names a value of its kind.
func setEnvironment(t *testing.T, text string) {
	t.Helper()
	for _, m := range variableName.FindAllStringSubmatch(text, -1) {
		value := "example"
		switch name := m[1]; {
		case strings.Contains(name, "REDIS") && !strings.HasSuffix(name, "PASSWORD"):
			value = "redis://127.0.0.1:6379"
		case strings.HasSuffix(name, "URL"), strings.HasSuffix(name, "ISSUER"):
			value = "https://example.com/"
		case strings.HasSuffix(name, "FLAGS_FILE"):
			value = root + "modules/flags/testdata/flags.yaml"
		case name == "FLAGS":
			value = root + "modules/flags/rollout/testdata/flags.yaml"
		case strings.HasSuffix(name, "UPSTREAMS"), strings.HasSuffix(name, "UPSTREAM"):
			value = "127.0.0.1:9000"
		}
		t.Setenv(m[1], value)
	}
}

// TestCaddyfilesAreClean holds the shipped Caddyfiles to what `sallyport fmt`
// and `sallyport validate` say of them.
func TestCaddyfilesAreClean(t *testing.T) {
	mounted := certificate(t)
	for _, file := range glob(t, "caddyfiles/*.Caddyfile") {
		text := read(t, file)
		if string(caddyfile.Format([]byte(text))) != text {
			t.Errorf("%s is not formatted; run sallyport fmt --overwrite on it", file)
		}
		snippets := read(t, "caddyfiles/snippets.caddy")
		setEnvironment(t, text+snippets)
		t.Setenv("UPSTREAMS", "127.0.0.1:9000")
		// What an orchestrator mounts is not here.
		moves := strings.NewReplacer("/run/secrets/tls", mounted, "/run/secrets/sallyport/redis-ca", mounted+"/tls.crt")
		if err := os.WriteFile(mounted+"/snippets.caddy", []byte(moves.Replace(snippets)), 0o600); err != nil {
			t.Fatal(err)
		}
		config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(moves.Replace(text)), map[string]any{"filename": mounted + "/Caddyfile"})
		if err != nil {
			t.Errorf("adapt %s: %v", file, err)
			continue
		}
		if len(warnings) > 0 {
			t.Errorf("adapt %s: %v", file, warnings)
		}
		if _, err := provision(t, config); err != nil {
			t.Errorf("validate %s: %v", file, err)
		}
	}
}

var (
	target  = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	madeOf  = regexp.MustCompile(`(?m)^(?:\$ )?make ([a-z][a-z0-9-]*)`)
	inRun   = regexp.MustCompile(`(?m)run: make ([a-z][a-z0-9-]*)`)
	inProse = regexp.MustCompile("`make ([a-z][a-z0-9-]*)")
)

// TestMakeTargetsExist compares every `make X` on a page, in the workflows and
// in what CI runs with the Makefile.
func TestMakeTargetsExist(t *testing.T) {
	var targets []string
	for _, m := range target.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, m[1])
	}
	named := madeOf.FindAllStringSubmatch(read(t, ".ci/run"), -1)
	if len(named) == 0 {
		t.Error(".ci/run calls no target")
	}
	for _, page := range pages(t) {
		named = append(named, inProse.FindAllStringSubmatch(read(t, page), -1)...)
	}
	for _, lang := range []string{"sh", "bash", "console"} {
		for _, b := range blocks(t, lang) {
			named = append(named, madeOf.FindAllStringSubmatch(b.text, -1)...)
		}
	}
	for _, file := range glob(t, ".github/workflows/*.yml") {
		named = append(named, inRun.FindAllStringSubmatch(read(t, file), -1)...)
	}
	for _, m := range named {
		if !slices.Contains(targets, m[1]) {
			t.Errorf("`make %s` is named, and the Makefile has no such target", m[1])
		}
	}
}

var (
	uses   = regexp.MustCompile(`(?m)uses: (.*)$`)
	pinned = regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v[0-9.]+$`)
)

// TestWorkflowsArePinned holds what a workflow may run and do.
func TestWorkflowsArePinned(t *testing.T) {
	for _, file := range glob(t, ".github/workflows/*.yml") {
		text := read(t, file)
		for _, m := range uses.FindAllStringSubmatch(text, -1) {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s uses %s; name the commit, and the version in a comment", file, m[1])
			}
		}
		if !strings.Contains(text, "\npermissions: {}\n") {
			t.Errorf("%s does not begin with no permissions", file)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^) ]*)?\)`)

// TestLinksLeadSomewhere follows the links between pages.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}
