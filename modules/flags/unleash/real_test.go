package unleash

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport-gateway/sallyport/test/port"
)

const (
	adminToken  = "*:*.unleash-test-admin-token"
	clientToken = "default:development.unleash-test-client-token"
)

// TestRealServer asks a server of Unleash with a PostgreSQL of its own.
// UNLEASH_SERVER is the path of the package unleash-server with what it needs
// installed; "make unleash" sees to that.
func TestRealServer(t *testing.T) {
	server := os.Getenv("UNLEASH_SERVER")
	if server == "" {
		t.Skip("UNLEASH_SERVER does not name the package unleash-server; make unleash runs this")
	}
	addr, kill := startReal(t, server)
	do := func(method, path, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/api/admin/projects/default/features"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", adminToken)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text, _ := io.ReadAll(answer.Body); answer.StatusCode >= 300 {
			t.Fatalf("%s %s: %s: %s", method, path, answer.Status, text)
		}
	}
	t.Setenv("UNLEASH_TOKEN", clientToken)
	storage := inFolder(filepath.Join(t.TempDir(), "storage"))
	from := source("http://"+addr+"/api", "token", "{env.UNLEASH_TOKEN}")
	g := start(t, storage, from)

	do(http.MethodPost, "", `{"name":"a","type":"release"}`)
	do(http.MethodPost, "/a/environments/development/strategies",
		`{"name":"flexibleRollout","parameters":{"rollout":"20","stickiness":"default","groupId":"a"}}`)
	do(http.MethodPost, "/a/environments/development/on", "")
	eventually(t, "a rollout arrives", func() bool { return slices.Contains(g.wears("a", 100), "on") })
	first := g.wears("a", 1000)
	if n := count(first, "on"); n < 100 || n > 300 {
		t.Errorf("of 1000 callers %d are in a rollout of 20%%", n)
	}
	do(http.MethodPost, "", `{"name":"b","type":"release"}`)
	do(http.MethodPost, "/b/environments/development/strategies",
		`{"name":"flexibleRollout","parameters":{"rollout":"100","stickiness":"default","groupId":"b"},
		"variants":[{"name":"blue","weight":1000,"weightType":"variable","stickiness":"default"}]}`)
	do(http.MethodPost, "/b/environments/development/on", "")
	eventually(t, "a variant arrives", func() bool { return g.gives("b", "alice") == "blue" })
	do(http.MethodPost, "/b/environments/development/off", "")
	eventually(t, "a change arrives", func() bool { return g.gives("b", "alice") == "off" })

	kill()
	eventually(t, "readiness tells of the outage", func() bool { return g.Ready(t.Context()) != nil })
	if got := g.wears("a", 1000); !slices.Equal(got, first) {
		t.Error("with the server killed callers changed sides")
	}
	g.stop()
	later := start(t, storage, from)
	if got := later.wears("a", 1000); !slices.Equal(got, first) {
		t.Error("after a restart without the server callers changed sides")
	}
}

func count(all []string, want string) int {
	n := 0
	for _, v := range all {
		if v == want {
			n++
		}
	}
	return n
}

// startReal starts PostgreSQL and the server, and returns how to kill the latter.
func startReal(t *testing.T, server string) (addr string, kill func()) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		t.Fatal("there is no PostgreSQL in /usr/lib/postgresql")
	}
	bin := found[len(found)-1]
	folder, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	as := unprivileged(t, folder)
	data := filepath.Join(folder, "data")
	run := func(c *exec.Cmd) *exec.Cmd {
		c.Dir, c.SysProcAttr = folder, &syscall.SysProcAttr{Credential: as}
		return c
	}
	if out, err := run(exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "unleash", "-A", "trust", "-E", "UTF8")).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	_, db, _ := net.SplitHostPort(port.Addr(t))
	// An interrupt is a shutdown that waits for nobody; a kill would leave its workers behind.
	launch(t, os.Interrupt, run(exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-p", db, "-k", folder,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")))
	eventually(t, "PostgreSQL answers", func() bool {
		return run(exec.Command(filepath.Join(bin, "pg_isready"), "-h", "127.0.0.1", "-p", db)).Run() == nil
	})
	addr = port.Addr(t)
	_, own, _ := net.SplitHostPort(addr)
	c := exec.Command("node", filepath.Join(server, "dist", "server.js"))
	c.Env = append(os.Environ(), "DATABASE_URL=postgres://unleash@127.0.0.1:"+db+"/postgres", "DATABASE_SSL=false",
		"HTTP_HOST=127.0.0.1", "PORT="+own, "HTTP_PORT="+own, "CHECK_VERSION=false", "SEND_TELEMETRY=false", "LOG_LEVEL=warn",
		"INIT_ADMIN_API_TOKENS="+adminToken, "INIT_CLIENT_API_TOKENS="+clientToken)
	kill = launch(t, os.Kill, c)
	eventually(t, "Unleash is ready", func() bool {
		answer, err := http.Get("http://" + addr + "/health")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return addr, kill
}

func launch(t *testing.T, end os.Signal, c *exec.Cmd) (kill func()) {
	t.Helper()
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = c.Process.Signal(end)
			_ = c.Wait()
		}
	}
	t.Cleanup(func() {
		kill()
		if t.Failed() {
			t.Logf("%s said: %s", filepath.Base(c.Path), out.String())
		}
	})
	return kill
}

// unprivileged is who runs PostgreSQL, which refuses to run as root.
func unprivileged(t *testing.T, folder string) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(fmt.Errorf("PostgreSQL does not run as root: %w", err))
	}
	uid, _ := strconv.Atoi(u.Uid) // numbers, on every Unix
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(folder, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
