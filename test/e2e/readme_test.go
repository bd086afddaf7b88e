package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// accidental is what differs from one run of the demo to the next.
var accidental = regexp.MustCompile(`127\.0\.0\.1:[0-9]+|[^ ]*sallyport-demo-[0-9]+`)

// sunk is what the audit sink hears, which may come before or after the rest.
var sunk = regexp.MustCompile(`(?m)^audit .*$\n?`)

// TestReadmeShowsTheDemo compares what `make run` prints with what README.md
// says it prints. That each of its lines ends in the status it names is tested
// beside the demo.
func TestReadmeShowsTheDemo(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "```console\n$ make run\n")
	shown, _, closed := strings.Cut(block, "```\n")
	if !found || !closed {
		t.Fatal("README.md has no block that begins with `$ make run`")
	}
	// What make itself prints: how it builds, and what it runs.
	_, shown, _ = strings.Cut(shown, "bin/sallyport demo\n")

	dir := t.TempDir()
	cmd := exec.Command(binary, "demo")
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "SHELL=/bin/bash"}
	demo, err := stage.Launch(cmd, filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if code, err := demo.Halt(); err != nil || code != 0 {
			t.Errorf("the demo ends with code %d, %v", code, err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	last := func(line string) bool { return strings.Contains(line, "Ctrl-C") }
	if err := demo.AwaitLine(ctx, "Ctrl-C", last); err != nil {
		t.Fatal(err)
	}
	mask := func(text string) string {
		return strings.TrimSpace(accidental.ReplaceAllString(sunk.ReplaceAllString(text, ""), "ACCIDENTAL"))
	}
	if diff := cmp.Diff(mask(shown), mask(strings.Join(demo.Lines(), "\n"))); diff != "" {
		t.Errorf("README.md and the demo differ (-README +demo):\n%s", diff)
	}
	for _, line := range regexp.MustCompile(`(?m)^\$ (curl .*)$`).FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(mask(shown), mask(line[1])) {
			t.Errorf("README.md runs %s, which the demo does not print", line[1])
		}
	}
}
