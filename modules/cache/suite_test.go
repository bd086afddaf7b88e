package cache

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/test/port"

	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// theirs are required tests of the public suite that this cache fails by choice.
var theirs = map[string]string{
	"headers-store-Set-Cookie":        "an answer with a cookie is not kept: it is for one client",
	"headers-store-Transfer-Encoding": "the upstream's client refuses such an answer as malformed",
}

// tally is what the suite's own rules make of its results: one line for each test.
const tally = `
const root = process.argv[1]
const { determineTestResult } = await import(root + '/test-engine/lib/results.mjs')
const suites = (await import(root + '/tests/index.mjs')).default
let text = ''
for await (const chunk of process.stdin) text += chunk
const results = JSON.parse(text)
for (const s of suites) for (const t of s.tests) {
  if (t.browser_only) continue
  const r = determineTestResult(suites, t.id, results, false)
  console.log([t.kind || 'required', results[t.id] === true, r[2], t.id].join(' '))
}`

// TestPublicSuite runs github.com/http-tests/cache-tests against this cache.
// CACHE_TESTS is the path of a checkout in which "npm install" was run:
//
//	CACHE_TESTS=<path> go test ./modules/cache -run TestPublicSuite -v
func TestPublicSuite(t *testing.T) {
	root := os.Getenv("CACHE_TESTS")
	if root == "" {
		t.Skip("CACHE_TESTS does not name a checkout of github.com/http-tests/cache-tests")
	}
	origin, gateway := port.Addr(t), port.Addr(t)
	startOrigin(t, root, origin)
	serveSuite(t, gateway, origin)

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, "node", "--no-warnings", "test-engine/cli.mjs")
	run.Dir = root
	run.Env = append(os.Environ(), "npm_config_base=http://"+gateway, "npm_config_id=", "npm_package_config_id=", "npm_package_config_base=")
	run.Stderr = os.Stderr
	results, err := run.Output()
	if err != nil {
		t.Fatalf("run the suite: %v", err)
	}
	// An empty npm_config_id counts as unset for some shells, so the first line may be words.
	count := exec.CommandContext(ctx, "node", "--input-type=module", "-e", tally, absolute(t, root))
	count.Stdin = strings.NewReader(string(results[strings.IndexByte(string(results), '{'):]))
	count.Stderr = os.Stderr
	lines, err := count.Output()
	if err != nil {
		t.Fatalf("read the results: %v", err)
	}
	judge(t, string(lines))
}

func judge(t *testing.T, lines string) {
	passed, all := make(map[string]int), make(map[string]int)
	for line := range strings.Lines(lines) {
		var kind, id, mark string
		var pass bool
		if _, err := fmt.Sscan(line, &kind, &pass, &mark, &id); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all[kind]++
		switch {
		case pass:
			passed[kind]++
		case kind == "required" && theirs[id] == "":
			t.Errorf("required test %s fails (%s)", id, mark)
		case kind == "required":
			t.Logf("required test %s: by choice, %s", id, theirs[id])
		}
	}
	for _, kind := range []string{"required", "optimal", "check"} {
		t.Logf("%s: %d of %d", kind, passed[kind], all[kind])
	}
	if all["required"] < 100 {
		t.Errorf("only %d required tests ran", all["required"])
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// startOrigin starts the suite's origin.
func startOrigin(t *testing.T, root, address string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	c := exec.Command("node", "test-engine/server/server.mjs")
	c.Dir = root
	c.Env = append(os.Environ(), "npm_config_port="+port, "npm_config_protocol=http", "npm_config_base=",
		"npm_config_pidfile="+filepath.Join(t.TempDir(), "pid"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatalf("start the suite's origin: %v", err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	if !bufio.NewScanner(out).Scan() { // its first line says that it listens
		t.Fatal("the suite's origin did not start")
	}
}

// serveSuite starts a gateway in front of the origin.
func serveSuite(t *testing.T, address, origin string) {
	t.Helper()
	config := fmt.Sprintf(`{"admin":{"disabled":true},"logging":{"logs":{"default":{"level":"ERROR"}}},"apps":{"http":{"servers":{"s":{
		"listen":[%q],"automatic_https":{"disable":true},"routes":[{"handle":[
			{"handler":"http_cache","name":"suite","targets":["CDN-Cache-Control"]},
			{"handler":"reverse_proxy","upstreams":[{"dial":%q}]}]}]}}}}}`, address, origin)
	var c caddy.Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Run(&c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	if _, err := http.Get("http://" + address + "/"); err != nil {
		t.Fatal(err)
	}
}
