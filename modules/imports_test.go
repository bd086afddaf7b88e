package modules_test

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const ours = "github.com/sallyport-gateway/sallyport/"

// level orders the house; imports go down only. A package takes the level of
// the longest entry that is a prefix of its path.
var level = map[string]int{
	"cmd":                          9,
	"test/observe":                 10, // it puts the demo's stubs around a gateway
	"test/chaos":                   10, // it runs the demo's issuer and sink as processes
	"test":                         9,
	"test/port":                    2,
	"caddyfiles":                   8,
	"modules/standard":             8,
	"modules/handover":             7,
	"modules/health":               7,
	"modules/admin":                7,
	"modules/routeindex":           7,
	"modules/audit":                6,
	"modules/telemetry":            6,
	"modules/jwtauth":              5,
	"modules/ratelimit":            5,
	"modules/flags":                5,
	"modules/cache":                5,
	"modules/breaker":              5,
	"modules/certificate":          5,
	"modules/redispool":            4,
	"modules/reject":               3,
	"modules/exchange":             2,
	"modules/secret":               2,
	"modules/syntax":               2,
	"modules/telemetry/instrument": 2,
}

// cores are the algorithms: no package of ours, and never Caddy.
var cores = []string{
	"modules/audit/spool",
	"modules/jwtauth/token",
	"modules/jwtauth/keyset",
	"modules/ratelimit/gcra",
	"modules/ratelimit/slidinglog",
	"modules/ratelimit/ledger",
	"modules/ratelimit/calendar",
	"modules/flags/rules",
	"modules/cache/store",
	"modules/cache/freshness",
	"modules/breaker/circuit",
	"modules/breaker/wire",
	"modules/flags/rollout/trial",
}

// reasons says, for each level, why nothing at or below it may import it.
var reasons = map[int]string{
	9: "commands and tests stand in front of the house; no room may depend on its door",
	8: "the guest list imports every room, and the shipped configurations name them all: importing either would put all of them into a build that wants one",
	7: "views find their peers by a small interface, so that a build without them stays whole",
	6: "guards write on the exchange or report a fact; observers read. A guard that knew its observers could not be built alone",
	5: "guards never know each other: each builds alone, and their order is the operator's",
	4: "the well is below the guards that draw from it",
	3: "a refusal is spoken by those above it",
	2: "the floor carries everything and rests on nothing",
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", ours+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func room(path string) (name string, lvl int) {
	path = strings.TrimPrefix(path, ours)
	for prefix, l := range level {
		if (path == prefix || strings.HasPrefix(path, prefix+"/")) && len(prefix) > len(name) {
			name, lvl = prefix, l
		}
	}
	return name, lvl
}

func TestImportsGoDown(t *testing.T) {
	for _, p := range list(t) {
		from, fromLevel := room(p.ImportPath)
		if p.ImportPath == ours+"modules" { // this test
			continue
		}
		if from == "" {
			t.Errorf("%s has no level; give its room one here", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			to, toLevel := room(imp)
			if !strings.HasPrefix(imp, ours) || to == from || toLevel < fromLevel {
				continue
			}
			t.Errorf("%s imports %s: %s", p.ImportPath, imp, reasons[toLevel])
		}
	}
}

func TestCoresKnowNobody(t *testing.T) {
	for _, p := range list(t) {
		if !slices.Contains(cores, strings.TrimPrefix(p.ImportPath, ours)) {
			continue
		}
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, "github.com/caddyserver/caddy/") {
				t.Errorf("%s depends on %s: a core is tested without a server", p.ImportPath, dep)
			}
			if strings.HasPrefix(dep, ours) {
				t.Errorf("%s depends on %s: a core takes what it needs as arguments", p.ImportPath, dep)
			}
		}
	}
}

// A core may be imported by its own room, which is the folder it stands in.
func TestCoresServeTheirRoomOnly(t *testing.T) {
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			core := strings.TrimPrefix(imp, ours)
			if !slices.Contains(cores, core) {
				continue
			}
			home, _ := room(imp)
			from, _ := room(p.ImportPath)
			if from != home && !strings.HasPrefix(from, "cmd") && !strings.HasPrefix(from, "test") {
				t.Errorf("%s imports %s: a core serves its own room; go through %s", p.ImportPath, imp, home)
			}
		}
	}
}

// lone are the SDKs of vendors, each with the package that alone may import it.
var lone = map[string]string{
	"github.com/Unleash/unleash-go-sdk/": "modules/flags/unleash",
	"github.com/launchdarkly/":           "modules/flags/launchdarkly",
}

func TestSDKsComeWithTheirPackageOnly(t *testing.T) {
	for _, p := range list(t) {
		path := strings.TrimPrefix(p.ImportPath, ours)
		_, lvl := room(p.ImportPath)
		for sdk, home := range lone {
			carries := slices.ContainsFunc(p.Deps, func(dep string) bool { return strings.HasPrefix(dep, sdk) })
			if carries && path != home && lvl < level["modules/standard"] {
				t.Errorf("%s carries %s: a build without %s would, too", path, sdk, home)
			}
			if !carries && path == home {
				t.Errorf("%s does not carry %s", path, sdk)
			}
		}
	}
}

// The page that newcomers read first must not lag behind the house.
func TestArchitecturePageNamesEveryRoom(t *testing.T) {
	page, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	named := slices.Clone(cores)
	for _, e := range entries {
		if e.IsDir() {
			named = append(named, e.Name())
		}
	}
	for _, path := range named {
		if name := filepath.Base(path); !strings.Contains(string(page), name+"/") {
			t.Errorf("docs/architecture.md does not name %s/", name)
		}
	}
}
