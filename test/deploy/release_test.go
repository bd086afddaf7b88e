//go:build release

package deploy

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// target runs a target of the Makefile.
func target(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command("make", append([]string{"--silent"}, args...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "COSIGN_PASSWORD=")
	return cmd.CombinedOutput()
}

// TestReleaseSnapshot makes a release of this commit, signed with a key pair of
// its own, and checks it as a user would: signature, checksums, provenance; what
// was changed is found; the SBOM names what the binary is made of; a build by
// hand gives the same bytes.
func TestReleaseSnapshot(t *testing.T) {
	home := t.TempDir()
	cmd := exec.Command("go", "tool", "-modfile=.tools/cosign/go.mod", "cosign", "generate-key-pair", "--output-key-prefix", filepath.Join(home, "release"))
	cmd.Dir, cmd.Env = root, append(os.Environ(), "COSIGN_PASSWORD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := target(t, "release", "SNAPSHOT=1", "SIGNING_KEY="+filepath.Join(home, "release.key")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	public := "VERIFY_KEY=" + filepath.Join(home, "release.pub")
	if out, err := target(t, "verify-release", public); err != nil {
		t.Errorf("the release does not verify: %v\n%s", err, out)
	}
	archives, _ := filepath.Glob(root + "/dist/*.tar.gz")
	if len(archives) != 2 {
		t.Fatalf("archives %v, want amd64 and arm64", archives)
	}

	for _, file := range []string{archives[0], root + "/dist/checksums.txt"} {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(bytes.Clone(before), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := target(t, "verify-release", public); err == nil {
			t.Errorf("%s was changed, and the release still verifies:\n%s", file, out)
		}
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	var provenance struct {
		Subject   []struct{ Name string }
		Predicate struct {
			BuildDefinition struct {
				ResolvedDependencies []struct{ Digest map[string]string }
			}
		}
	}
	if err := json.Unmarshal([]byte(text(t, root+"/dist/provenance.json")), &provenance); err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(tool(t, "git", "rev-parse", "HEAD"))
	if n := len(provenance.Subject); n != 4 || provenance.Predicate.BuildDefinition.ResolvedDependencies[0].Digest["gitCommit"] != commit {
		t.Errorf("the provenance is of %d files and %+v, want 4 and %s", n, provenance.Predicate, commit)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		found, _ := filepath.Glob(root + "/dist/sallyport_linux_" + arch + "*/sallyport")
		sboms, _ := filepath.Glob(root + "/dist/*_linux_" + arch + ".cdx.json")
		if len(found) != 1 || len(sboms) != 1 {
			t.Fatalf("binaries %v, SBOMs %v", found, sboms)
		}
		compareSBOM(t, found[0], text(t, sboms[0]))

		again := filepath.Join(home, arch)
		build := exec.Command("go", "build", "-trimpath", "-mod=readonly", "-ldflags=-s -w", "-o", again, "./cmd/sallyport")
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if text(t, again) != text(t, found[0]) {
			t.Errorf("%s: a build by hand is not the release's binary", arch)
		}
	}
}

// compareSBOM: the modules that the linker has written into the binary are the
// components of the SBOM.
func compareSBOM(t *testing.T, binary, sbom string) {
	t.Helper()
	var bom struct {
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal([]byte(sbom), &bom); err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]string)
	for _, c := range bom.Components {
		listed[c.Name] = c.Version
	}
	n := 0
	for line := range strings.Lines(tool(t, "go", "version", "-m", binary)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "dep" {
			continue
		}
		n++
		if listed[f[1]] != f[2] {
			t.Errorf("%s is made of %s %s, the SBOM says %q", filepath.Base(binary), f[1], f[2], listed[f[1]])
		}
	}
	if n < 50 {
		t.Errorf("%s names only %d modules", binary, n)
	}
}
