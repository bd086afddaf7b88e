package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// TestComposeRollout runs what docker/compose.rollout.yml runs: callers of whom
// 5 % get the canary, which begins to fail and is taken back by itself.
func TestComposeRollout(t *testing.T) {
	const dir = "../../../docker/rollout/"
	home := t.TempDir()
	site, internal := redistest.FreePort(t), redistest.FreePort(t)
	source, err := os.ReadFile(dir + "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(home, "admin.sock")
	moved := filepath.Join(home, "Caddyfile")
	text := strings.NewReplacer("http://:8080", fmt.Sprintf("http://127.0.0.1:%d", site), "http://:9180", fmt.Sprintf("http://127.0.0.1:%d", internal),
		"/run/sallyport/admin.sock", socket).Replace(string(source))
	if err := os.WriteFile(moved, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags, err := filepath.Abs(dir + "flags.yaml")
	if err != nil {
		t.Fatal(err)
	}
	services := []*Upstream{{Name: "orders-1"}, {Name: "orders-2"}}
	faults := start(t, Control(services...))
	env := []string{
		"CADDY_ADMIN=unix/" + socket + "|0600", "REDIS_URL=redis://" + redistest.Start(t).Addr, "FLAGS_FILE=" + flags,
		"STABLE=" + strings.TrimPrefix(start(t, services[0]), "http://"), "CANARY=" + strings.TrimPrefix(start(t, services[1]), "http://"),
	}
	gateway := sallyportWith(t, home, env, "run", "--config", moved, "--adapter", "caddyfile")
	gateway.until("serving initial configuration")

	caller, answered := 0, make(map[int]int)
	traffic := func(what string, enough func() bool) {
		t.Helper()
		for end := time.Now().Add(90 * time.Second); !enough(); {
			if time.Now().After(end) {
				t.Fatalf("it never came to this: %s; answers %v, metrics:\n%s", what, answered, rolloutMetrics(t, internal))
			}
			for range 100 {
				caller++
				answered[askAs(t, site, caller%1000)]++
			}
		}
	}
	metric := func(name, want string) func() bool {
		return func() bool { return strings.Contains(rolloutMetrics(t, internal), name+" "+want+"\n") }
	}
	traffic("5 % get the canary", metric(`sallyport_rollout_share{flag="orders",release=""}`, "0.05"))
	traffic("there is a sample", func() bool { return answered[200] > 1000 })
	if answered[503] > 0 {
		t.Fatalf("before anything fails the answers are %v", answered)
	}

	// What fail.sh does.
	script, err := os.ReadFile(dir + "fail.sh")
	if err != nil || !strings.Contains(string(script), `"$fault?status=503&share=20%"`) {
		t.Fatalf("fail.sh does not break the canary as this test does: %v", err)
	}
	req, err := http.NewRequest(http.MethodPut, faults+"/fault/orders-2?status=503&share=20%25", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("break the canary: %v, %v", res, err)
	}
	_ = res.Body.Close()
	traffic("the canary is taken back", metric(`sallyport_rollout_phase{flag="orders",phase="aborted",release=""}`, "1"))
	failed := answered[503]
	traffic("nobody gets it any more", func() bool { return caller%1000 == 0 })
	if answered[503] > failed {
		t.Errorf("after the rollback %d of the answers are errors", answered[503]-failed)
	}

	status := sallyportWith(t, home, env, "rollout", "status", "orders", "--json")
	_, printed := status.wait()
	var list []struct {
		Phase   string
		History []struct{ What, Reason string }
	}
	if err := json.Unmarshal([]byte(printed), &list); err != nil || len(list) != 1 || list[0].Phase != "aborted" || len(list[0].History) != 2 || list[0].History[1].What != "rolled_back" {
		t.Errorf("sallyport rollout status prints %s (%v)", printed, err)
	}
	if code, printed := gateway.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d; printed:\n%s", code, printed)
	}
}

// askAs asks the gateway as one of many callers, and returns the status.
func askAs(t *testing.T, port, caller int) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/orders", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", fmt.Sprintf("caller-%d", caller))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func rolloutMetrics(t *testing.T, port int) string {
	t.Helper()
	_, body := ask(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), "")
	var lines strings.Builder
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "sallyport_rollout_") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}
