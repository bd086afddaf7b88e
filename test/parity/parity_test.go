// Package parity holds the tests that compare what the gateway can do with
// what is said of it: pages, golden pairs, stories, problem codes, metrics,
// and every example that a reader may copy.
package parity

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	_ "github.com/sallyport-gateway/sallyport/modules/standard"
)

const root = "../../"

// word is a directive or a global option that operators write.
type word struct {
	name string
	// room is the package below modules/ that it belongs to.
	room string
	// handlers are the modules behind a directive, below http.handlers.
	handlers []string
	// stories is how the names of its stories begin. Default: name.
	stories string
}

var words = []word{
	{name: "admin_api", room: "admin", handlers: []string{"admin_api"}, stories: "admin"},
	{name: "audit", room: "audit", handlers: []string{"audit"}},
	{name: "breaker_proxy", room: "breaker", handlers: []string{"breaker"}, stories: "breaker"},
	{name: "cache", room: "cache", handlers: []string{"http_cache"}},
	{name: "certificate", room: "certificate"},
	{name: "flags", room: "flags", handlers: []string{"flags"}},
	{name: "handover", room: "handover", stories: "reload"},
	{name: "health", room: "health", handlers: []string{"health"}},
	{name: "jwt", room: "jwtauth", handlers: []string{"jwt", "jwt_metadata"}},
	{name: "problem", room: "reject", handlers: []string{"problem"}},
	{name: "rate_limit", room: "ratelimit", handlers: []string{"rate_limit"}},
	{name: "redis", room: "redispool", stories: "rate_limit"},
	{name: "rollout", room: "flags"},
	{name: "route_index", room: "routeindex"},
	{name: "telemetry", room: "telemetry", handlers: []string{"telemetry"}},
}

func (w word) pageFile() string {
	return "docs/modules/" + w.name + ".md"
}

const ours = "github.com/sallyport-gateway/sallyport/modules/"

// TestEveryModuleHasAWord fails for a module that no operator is told of.
func TestEveryModuleHasAWord(t *testing.T) {
	rooms, handlers := make(map[string]bool), make(map[string]bool)
	for _, w := range words {
		rooms[w.room] = true
		for _, handler := range w.handlers {
			handlers[handler] = true
			if _, err := caddy.GetModule("http.handlers." + handler); err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
		}
	}
	for _, id := range caddy.Modules() {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		typ := reflect.TypeOf(info.New())
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		path, mine := strings.CutPrefix(typ.PkgPath(), ours)
		if !mine {
			continue
		}
		if room, _, _ := strings.Cut(path, "/"); !rooms[room] {
			t.Errorf("module %s: the room %s has no word in the list of this test", id, room)
		}
		if handler, ok := strings.CutPrefix(id, "http.handlers."); ok && !handlers[handler] {
			t.Errorf("module %s belongs to no word in the list of this test", id)
		}
	}
}

// headings are the parts that every page has, in this order; others may stand
// between them.
var headings = []string{"## Syntax", "## Example", "## JSON", "## Placeholders", "## Metrics", "## Failure behaviour"}

var anyHeading = regexp.MustCompile(`(?m)^## .*$`)

func TestEveryWordHasAPage(t *testing.T) {
	for _, w := range words {
		text := read(t, w.pageFile())
		if !strings.HasPrefix(text, "# "+w.name+"\n") {
			t.Errorf("%s does not begin with the heading %q", w.pageFile(), "# "+w.name)
		}
		var got []string
		for _, h := range anyHeading.FindAllString(text, -1) {
			if slices.Contains(headings, h) {
				got = append(got, h)
			}
		}
		if !slices.Equal(got, headings) {
			t.Errorf("%s has the parts\n  %v\nwant, in this order,\n  %v", w.pageFile(), got, headings)
		}
	}
}

func TestEveryWordHasGoldenPairs(t *testing.T) {
	for _, w := range words {
		for _, kind := range []string{"plain", "full", "refused*"} {
			glob(t, "modules/"+w.room+"/testdata/adapt/"+w.name+"_"+kind+".caddytest")
		}
	}
}

func TestEveryWordHasAStory(t *testing.T) {
	for _, w := range words {
		stories := w.stories
		if stories == "" {
			stories = w.name
		}
		glob(t, "test/e2e/"+stories+"_*.txtar")
	}
}

// glob returns the files of the project that fit pattern, at least one.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(root + pattern)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Errorf("there is no %s", pattern)
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(root + strings.TrimPrefix(file, root))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func adapt(text string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
}

// provision does what `sallyport validate` does, and returns the context for a
// look at it.
func provision(t *testing.T, config []byte) (caddy.Context, error) {
	t.Helper()
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		return caddy.Context{}, err
	}
	// The tests of one process share its storage and admin address.
	c.Admin = &caddy.AdminConfig{Disabled: true}
	return caddy.ProvisionContext(&c)
}
