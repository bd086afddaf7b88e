//go:build apiserver

package deploy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// TestAPIServer sends what each overlay renders to a real kube-apiserver, with
// strict validation and Pod Security's restricted profile enforced. Kinds that
// a controller of its own brings are checked against their schemas elsewhere.
func TestAPIServer(t *testing.T) {
	api := startAPIServer(t)
	for _, dir := range overlays(t) {
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			var stream bytes.Buffer
			pods := 0
			for _, o := range render(t, dir) {
				version, _ := o["apiVersion"].(string)
				if strings.Contains(version, ".") && !strings.HasSuffix(strings.SplitN(version, "/", 2)[0], "k8s.io") || strings.HasPrefix(version, "gateway.networking") {
					continue
				}
				if o.kind() == "Deployment" {
					// The quota of a namespace judges pods, so one is sent as well.
					template := o.at("spec", "template").(map[string]any)
					template["apiVersion"], template["kind"] = "v1", "Pod"
					pod := object{"apiVersion": "v1", "kind": "Pod", "spec": template["spec"], "metadata": map[string]any{
						"name": o.name() + "-pod", "namespace": o.at("metadata", "namespace"), "labels": template["metadata"].(map[string]any)["labels"],
					}}
					delete(template, "apiVersion")
					delete(template, "kind")
					write(t, &stream, pod)
					pods++
				}
				write(t, &stream, o)
			}
			if pods == 0 {
				t.Fatal("no Deployment is rendered")
			}
			out, err := api.kubectl(&stream, "apply", "--validate=strict", "--server-side", "--force-conflicts", "-f", "-")
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if strings.Contains(out, "would violate PodSecurity") {
				t.Errorf("a pod template violates the restricted profile:\n%s", out)
			}
		})
	}
	t.Run("refuses", func(t *testing.T) {
		for what, change := range map[string]func(pod map[string]any){
			"a misspelt field": func(pod map[string]any) { pod["terminationGracePeriod"] = 5 },
			"a privileged pod": func(pod map[string]any) {
				pod["containers"].([]any)[0].(map[string]any)["securityContext"] = map[string]any{"privileged": true}
			},
		} {
			d := find(t, production(t), "Deployment", "sallyport")
			pod := object{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "bad", "namespace": "sallyport"}}
			spec := d.at("spec", "template", "spec").(map[string]any)
			change(spec)
			pod["spec"] = spec
			var stream bytes.Buffer
			write(t, &stream, pod)
			if out, err := api.kubectl(&stream, "create", "--validate=strict", "-f", "-"); err == nil {
				t.Errorf("%s is accepted:\n%s", what, out)
			}
		}
	})
}

func write(t *testing.T, stream *bytes.Buffer, o object) {
	t.Helper()
	document, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(stream, "---\n%s", document)
}

type apiServer struct{ url, home string }

func (a apiServer) kubectl(stdin *bytes.Buffer, args ...string) (string, error) {
	args = append([]string{"--server", a.url, "--insecure-skip-tls-verify", "--token", "verify", "--cache-dir", a.home}, args...)
	cmd := exec.Command("kubectl", args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HOME="+a.home)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// startAPIServer builds kube-apiserver where it is not built yet, and starts it
// with an etcd of its own. KUBE_APISERVER names one that is there.
func startAPIServer(t *testing.T) apiServer {
	t.Helper()
	binary := os.Getenv("KUBE_APISERVER")
	if binary == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		binary = filepath.Join(cache, "sallyport", "kube-apiserver-1.37.2")
		if _, err := os.Stat(binary); err != nil {
			build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, "k8s.io/kubernetes/cmd/kube-apiserver")
			build.Dir = "apiserver"
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build kube-apiserver: %v\n%s", err, out)
			}
		}
	}
	home := t.TempDir()
	etcd, peer, secure := freePort(t), freePort(t), freePort(t)
	run(t, "etcd", "--data-dir", filepath.Join(home, "etcd"), "--listen-client-urls", "http://"+etcd, "--advertise-client-urls", "http://"+etcd,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	files := map[string][]byte{"tokens.csv": []byte("verify,verify,verify,system:masters\n"), "account.key": accountKey(t)}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(home, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(secure)
	run(t, binary, "--etcd-servers", "http://"+etcd, "--bind-address", "127.0.0.1", "--secure-port", port, "--cert-dir", filepath.Join(home, "certs"),
		"--token-auth-file", filepath.Join(home, "tokens.csv"), "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24",
		"--service-account-issuer", "https://verify", "--service-account-key-file", filepath.Join(home, "account.key"),
		"--service-account-signing-key-file", filepath.Join(home, "account.key"), "--disable-admission-plugins", "ServiceAccount")
	api := apiServer{url: "https://" + secure, home: home}
	deadline := time.Now().Add(2 * time.Minute)
	for tick := time.NewTicker(500 * time.Millisecond); ; <-tick.C {
		out, err := api.kubectl(nil, "get", "--raw", "/readyz")
		if err == nil {
			return api
		}
		if time.Now().After(deadline) {
			t.Fatalf("the API server is not ready: %v\n%s", err, out)
		}
	}
}

// run starts a program that lives until the test ends.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		if t.Failed() {
			tail := log.String()
			t.Logf("%s ends with:\n%s", filepath.Base(name), tail[max(0, len(tail)-2000):])
		}
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func accountKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
