package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchiveFolder verifies what the file sink has set aside piece by piece, as
// it comes back from a store that refuses deletion: read-only, a folder a day.
func TestArchiveFolder(t *testing.T) {
	e := record(t, "gw")
	whole, err := os.ReadFile(e.archive)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(whole), "\n"), "\n")
	name := func(first int) string { return fmt.Sprintf("audit-%020d-before-%020d.ndjson", 1767225600000, first) }
	for _, c := range []struct {
		name   string
		tamper func(t *testing.T, dir string)
		want   string
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a file between is missing", func(t *testing.T, dir string) { remove(t, dir, "01", name(15)) }, "events 10 to 14 are missing"},
		{"the newest is missing", func(t *testing.T, dir string) { remove(t, dir, "02", "audit.ndjson") }, "the newest were removed"},
		{"one is another's", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "01", name(15))
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, []byte(strings.ReplaceAll(string(b), "an event", "no event")), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "does not match"},
		{"it is empty", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "01")); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "02")); err != nil {
				t.Fatal(err)
			}
		}, "neither a spool nor an archive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, piece := range []struct {
				day, name   string
				first, next int
			}{{"01", name(10), 0, 9}, {"01", name(15), 9, 14}, {"02", name(30), 14, 29}, {"02", "audit.ndjson", 29, len(lines)}} {
				if err := os.MkdirAll(filepath.Join(dir, piece.day), 0o700); err != nil {
					t.Fatal(err)
				}
				text := strings.Join(lines[piece.first:piece.next], "")
				if err := os.WriteFile(filepath.Join(dir, piece.day, piece.name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "README"), []byte("not an event"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.tamper(t, dir)
			var out strings.Builder
			err := verifyAll(&out, []string{dir}, []string{e.key}, e.archive)
			text := out.String()
			if err != nil {
				text += err.Error()
			}
			if (err == nil) != (c.want == "") || !strings.Contains(text, c.want) {
				t.Errorf("verify: %s\nwant %q", text, c.want)
			}
		})
	}
}

func remove(t *testing.T, path ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}
