//go:build admission

package deploy

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"
)

// built returns a program of a module of its own, from the cache or else built.
func built(t *testing.T, file, module, pkg string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(cache, "sallyport", file)
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	build := exec.Command("go", "build", "-o", binary, pkg)
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return binary
}

// keys makes a key pair with cosign in a folder of its own.
func keys(t *testing.T, cosign string) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(cosign, "generate-key-pair")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "COSIGN_PASSWORD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "cosign.key"), filepath.Join(dir, "cosign.pub")
}

// push puts an image of random content into the registry.
func push(t *testing.T, host, repository string) string {
	t.Helper()
	img, err := random.Image(512, 1)
	if err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewDigest(host + "/" + repository + "@" + d.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// dist is what `make release` leaves for the image's attestations.
func dist(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	some := make([]byte, 32)
	_, _ = rand.Read(some) // never fails
	for file, content := range map[string]string{
		"sallyport_1.0.0_linux_amd64.cdx.json": `{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"components":[]}`,
		"checksums.txt":                        hex.EncodeToString(some) + "  sallyport_1.0.0_linux_amd64.tar.gz\n",
		"provenance.json":                      "{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSignedImagesOnly signs an image in a registry of its own as the release
// does, with a key pair in place of the workflow's identity, and asks the
// verifier of `make promote` and the engine of the policy controller about it,
// about one that is not signed, one that somebody else has signed, and one that
// is signed and has neither SBOM nor provenance.
func TestSignedImagesOnly(t *testing.T) {
	cosign := built(t, "cosign-2.6.5", "../../.tools/cosign", "github.com/sigstore/cosign/v2/cmd/cosign")
	engine := built(t, "policy-tester-0.13.1", "policycontroller", "github.com/sigstore/policy-controller/cmd/tester")
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	private, public := keys(t, cosign)
	foreign, _ := keys(t, cosign)

	script := func(file, image string, env ...string) (string, error) {
		cmd := exec.Command("../../.tools/"+file, image)
		cmd.Env = append(append(os.Environ(), "COSIGN_PASSWORD="), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	signed, unsigned, other, bare := push(t, host, "edge/sallyport"), push(t, host, "edge/sallyport"), push(t, host, "edge/sallyport"), push(t, host, "edge/sallyport")
	for image, key := range map[string]string{signed: private, other: foreign} {
		if out, err := script("sign-image.sh", image, "SIGNING_KEY="+key, "DIST="+dist(t)); err != nil {
			t.Fatalf("sign: %v\n%s", err, out)
		}
	}
	cmd := exec.Command(cosign, "sign", "--yes", "--key", private, "--tlog-upload=false", bare)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sign: %v\n%s", err, out)
	}

	policy := keyedPolicy(t, host, public)
	for what, c := range map[string]struct {
		image string
		ok    bool
	}{
		"signed": {signed, true}, "unsigned": {unsigned, false}, "signed by another": {other, false}, "signed, without SBOM": {bare, false},
	} {
		t.Run(what, func(t *testing.T) {
			if out, err := script("verify-image.sh", c.image, "VERIFY_KEY="+public); (err == nil) != c.ok {
				t.Errorf("make verify-image: %v, want admitted %v\n%s", err, c.ok, out)
			}
			out, err := exec.Command(engine, "--policy", policy, "--image", c.image).CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("policy controller: %v, want admitted %v\n%s", err, c.ok, out)
			}
		})
	}
}

// keyedPolicy writes the shipped policy for another registry, with a public key
// in place of the workflow's identity and of the public log.
func keyedPolicy(t *testing.T, host, public string) string {
	t.Helper()
	p := find(t, render(t, policies+"/sigstore"), "ClusterImagePolicy", "sallyport-signed")
	glob := p.at("spec", "images", 0).(map[string]any)
	glob["glob"] = strings.Replace(glob["glob"].(string), "registry.example.com", host, 1)
	authority := p.at("spec", "authorities", 0).(map[string]any)
	delete(authority, "keyless")
	delete(authority, "ctlog")
	authority["key"] = map[string]any{"data": text(t, public)}
	content, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
