package parity

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	metricRow  = regexp.MustCompile("(?m)^\\|( `[^|]*) \\|")
	metricName = regexp.MustCompile("`([a-z0-9_]+)[`{]")
	fqName     = regexp.MustCompile(`fqName: "([^"]*)"`)
)

// TestMetricsAndPagesAgree loads each word's full golden pair and compares what
// is then registered with the first column of the table on the word's page.
func TestMetricsAndPagesAgree(t *testing.T) {
	stock := registered(t, "http://:8080 {\n\trespond \"stock\"\n}\n")
	documented, ours := make(map[string]bool), make(map[string]bool)
	for _, w := range words {
		var site string
		for _, file := range glob(t, "modules/"+w.room+"/testdata/adapt/"+w.name+"_full.caddytest") {
			site, _, _ = strings.Cut(read(t, file), "\n----------\n")
		}
		names := registered(t, site+"\n")
		for name := range names {
			ours[name] = !stock[name] && !strings.HasPrefix(name, "caddy_")
		}
		for _, row := range metricRow.FindAllStringSubmatch(part(read(t, w.pageFile()), "## Metrics"), -1) {
			for _, name := range metricName.FindAllStringSubmatch(row[1], -1) {
				documented[name[1]] = true
				if !names[name[1]] {
					t.Errorf("%s names the metric %s, which %s does not register", w.pageFile(), name[1], w.name)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		if ours[name] && !documented[name] {
			t.Errorf("the metric %s is on no page of docs/modules", name)
		}
	}
}

// registered provisions a Caddyfile and returns the names in its registry.
func registered(t *testing.T, site string) map[string]bool {
	t.Helper()
	setEnvironment(t, site)
	config, _, err := adapt(site)
	if err != nil {
		t.Fatalf("%v\n%s", err, site)
	}
	ctx, err := provision(t, config)
	if err != nil {
		t.Fatalf("%v\n%s", err, site)
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		ctx.GetMetricsRegistry().Describe(descs)
		close(descs)
	}()
	names := make(map[string]bool)
	for desc := range descs {
		names[fqName.FindStringSubmatch(desc.String())[1]] = true
	}
	return names
}

// text returns the value of a string literal, or of a constant in its file.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return s
		}
	case *ast.Ident:
		if e.Obj != nil {
			if spec, ok := e.Obj.Decl.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				return text(spec.Values[0])
			}
		}
	}
	return ""
}

// eachFile calls look with every Go file below dir that is no test.
func eachFile(t *testing.T, dir string, look func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(root+dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err == nil {
			look(strings.TrimPrefix(path, root), file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// part returns what stands under a heading.
func part(page, heading string) string {
	_, rest, _ := strings.Cut(page, "\n"+heading+"\n")
	before, _, _ := strings.Cut(rest, "\n## ")
	return before
}
