package telemetry_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The page names every metric, span attribute and log field of the code, and
// no other: both are read here, the code as syntax.
func TestThePageNamesWhatTheCodeSends(t *testing.T) {
	text, err := os.ReadFile("../../docs/modules/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	sent := names(t)
	for name := range sent {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("%s is sent and not in the page", name)
		}
	}
	for _, m := range regexp.MustCompile("`((?:sallyport_|http_|rpc_|http\\.|url\\.|server\\.|client\\.|network\\.|user_agent\\.|rpc\\.|error\\.|db\\.)[a-z_.]+)`").FindAllStringSubmatch(page, -1) {
		name := m[1]
		if !sent[name] && name != "sallyport_telemetry" && !strings.HasPrefix(name, "http.handlers") {
			t.Errorf("%s is in the page and not sent", name)
		}
	}
	if len(sent) < 40 {
		t.Errorf("only %d names were found in the code", len(sent))
	}
}

// names are the first arguments of the calls that make attributes, log fields
// and metrics.
func names(t *testing.T) map[string]bool {
	t.Helper()
	out := make(map[string]bool)
	for _, file := range sources(t, "*.go", "../*/*.go") {
		if file == "app.go" || file == "caddyfile.go" { // which name options
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 1 && method(call.Fun) == "Note" {
				keep(out, "sallyport.", call.Args[0])
				keep(out, "", call.Args[0])
			}
			if lit, ok := n.(*ast.CompositeLit); ok && method(lit.Type) == "Step" {
				for _, e := range lit.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Name" {
						keep(out, "", kv.Value)
					}
				}
			}
			if strings.HasPrefix(file, "../") {
				return true // the other rooms' metrics are in their own pages
			}
			switch n := n.(type) {
			case *ast.ValueSpec: // names by which others are known over OTLP
				if strings.HasPrefix(n.Names[0].Name, "conventional") {
					texts(out, n)
				}
			case *ast.CallExpr:
				if maker(n.Fun) && len(n.Args) > 1 {
					keep(out, "", n.Args[0])
				}
				if method(n.Fun) == "NewDesc" {
					texts(out, n.Args[2])
				}
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Name" {
					keep(out, "sallyport_", n.Value)
				}
			}
			return true
		})
	}
	return out
}

// texts keeps all names below n.
func texts(out map[string]bool, n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			keep(out, "", lit)
		}
		return true
	})
}

// sources are the files that fit a pattern and are no tests.
func sources(t *testing.T, patterns ...string) (files []string) {
	t.Helper()
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			if !strings.HasSuffix(file, "_test.go") {
				files = append(files, file)
			}
		}
	}
	return files
}

// method is the name behind the dot.
func method(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

func maker(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name == "add"
	case *ast.SelectorExpr:
		pkg, _ := f.X.(*ast.Ident)
		return pkg != nil && (pkg.Name == "w" || pkg.Name == "zap" || pkg.Name == "prometheus" && f.Sel.Name == "NewDesc")
	}
	return false
}

func keep(out map[string]bool, prefix string, e ast.Expr) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return
	}
	name, _ := strconv.Unquote(lit.Value)
	// Options of a Caddyfile have names as well; metrics have an underscore and no slash.
	if name == "" || name == "db_system_name" || name == "db_operation_name" || strings.HasSuffix(name, ".") || strings.HasPrefix(name, "service.") || prefix != "" && !strings.Contains(name, "_") {
		return
	}
	out[prefix+name] = true
}
