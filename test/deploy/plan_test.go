package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`(Test[A-Za-z]+)[^`]*`")
	story    = regexp.MustCompile("T `([a-z_]+(?:_\\*)?)`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// TestPlanNamesWhatExists checks docs/plan.md and the pages about environments,
// dashboards and runbooks: every test, story and file that they name is there.
func TestPlanNamesWhatExists(t *testing.T) {
	tests := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, m := range declared.FindAllStringSubmatch(text(t, path), -1) {
				tests[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages := append(runbooks(t), "../../docs/plan.md", "../../docs/environments.md", "../../docs/dashboards.md", "../../docs/deployment.md")
	for _, page := range pages {
		content := text(t, page)
		for _, m := range testName.FindAllStringSubmatch(content, -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which is no test", page, m[1])
			}
		}
		for _, m := range story.FindAllStringSubmatch(content, -1) {
			if found, _ := filepath.Glob("../e2e/" + m[1] + ".txtar"); len(found) == 0 && m[1] != "cmd" {
				t.Errorf("%s names the story %s, which is not there", page, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(content, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
	// Each part of the plan has its table.
	for part := 1; part <= 10; part++ {
		if !strings.Contains(text(t, "../../docs/plan.md"), fmt.Sprintf("\n## %d. ", part)) {
			t.Errorf("docs/plan.md has no part %d", part)
		}
	}
}
