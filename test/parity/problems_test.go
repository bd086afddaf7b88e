package parity

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var code = regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+$`)

// TestProblemCodesAreDescribed compares the codes in the code with the headings
// of docs/problems.md: a refusal's code is described, and what is described is
// somewhere in the code. The stories do the same with every answer they get.
func TestProblemCodesAreDescribed(t *testing.T) {
	var described []string
	for _, h := range anyHeading.FindAllString(read(t, "docs/problems.md"), -1) {
		if name := strings.TrimPrefix(h, "## "); code.MatchString(name) {
			described = append(described, name)
		}
	}
	if !slices.IsSorted(described) {
		t.Errorf("docs/problems.md is not sorted: %v", described)
	}
	used, written := make(map[string]string), make(map[string]bool)
	eachFile(t, "modules", func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if name := refusalCode(n); name != "" {
				used[name] = path
			}
			if literal, ok := n.(*ast.BasicLit); ok {
				written[text(literal)] = true
			}
			return true
		})
	})
	if len(used) == 0 {
		t.Fatal("found no refusal in the code")
	}
	for name, path := range used {
		if !slices.Contains(described, name) {
			t.Errorf("%s refuses with %s, which docs/problems.md does not describe", path, name)
		}
	}
	for _, name := range described {
		if !written[name] {
			t.Errorf("docs/problems.md describes %s, with which nothing refuses", name)
		}
	}
}

// refusalCode returns the Code of a literal reject.Refusal.
func refusalCode(n ast.Node) string {
	literal, ok := n.(*ast.CompositeLit)
	if !ok {
		return ""
	}
	typ, ok := literal.Type.(*ast.SelectorExpr)
	if !ok || typ.Sel.Name != "Refusal" {
		return ""
	}
	for _, e := range literal.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Code" {
				return text(kv.Value)
			}
		}
	}
	return ""
}
