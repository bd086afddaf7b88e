package cache

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// TestEveryMustHasItsProof holds the page of the RFC's demands against the
// tests that it names.
func TestEveryMustHasItsProof(t *testing.T) {
	page, err := os.ReadFile("../../docs/modules/cache_rfc9111.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, rules := range [][]rule{storing, reusing, freshening, validating, invalidating, requesting} {
		for _, ru := range rules {
			known[ru.Section+" "+ru.Name] = true
		}
	}
	for _, pattern := range []string{"*_test.go", "*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllSubmatch(text, -1) {
				known[string(m[1])] = true
			}
		}
	}
	rows, named := 0, make(map[string]bool)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.ContainsAny(cells[1], "12345") {
			continue
		}
		rows++
		for _, m := range quoted.FindAllStringSubmatch(cells[3], -1) {
			named[m[1]] = true
			if !known[m[1]] {
				t.Errorf("section%sis held by %q, which is no test", cells[1], m[1])
			}
		}
	}
	if rows < 50 || len(named) < 60 {
		t.Errorf("the page has %d demands and %d tests, want at least 50 and 60", rows, len(named))
	}
}
