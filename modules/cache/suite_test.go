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

// outdated are required tests of the edition of 2020, by how their ids begin,
// that ask for what RFC 9111 has since settled otherwise.
var outdated = map[string]string{
	"age-parse-":                "an Age that cannot be read is ignored (section 5.1)",
	"stale-close-":              "that edition takes a 502 of the gateway for an answer from its store",
	"304-etag-update-response-": "Content-MD5 is updated, and a 304 of another tag is none (sections 3.2 and 4.3.4)",
}

// byChoice says why the required test may fail.
func byChoice(id string, old bool) string {
	for begins, why := range outdated {
		if old && strings.HasPrefix(id, begins) {
			return why
		}
	}
	return theirs[id]
}

// tally says what became of each test, a line each: its kind, who ran it,
// whether it passed, its id, and what was wrong.
const tally = `
const root = process.argv[1]
const { readFileSync } = await import('fs')
const suites = (await import(root + '/tests/index.mjs')).default
let text = ''
for await (const chunk of process.stdin) text += chunk
const all = { ours: JSON.parse(text) }
for (const peer of ['nginx', 'varnish']) all[peer] = JSON.parse(readFileSync(root + '/results/' + peer + '.json'))
for (const s of suites) for (const t of s.tests) {
  if (t.browser_only) continue
  for (const [name, results] of Object.entries(all)) {
    const r = results[t.id]
    console.log([t.kind || 'required', name, r === true, t.id, JSON.stringify(r)].join(' '))
  }
}`

// TestPublicSuite runs github.com/http-tests/cache-tests against this cache and
// holds it against what the suite publishes of its peers. CACHE_TESTS is the
// path of a checkout, or of the package http-cache-tests, with what it needs
// installed; "make cache-suite" sees to that.
func TestPublicSuite(t *testing.T) {
	root := os.Getenv("CACHE_TESTS")
	if root == "" {
		t.Skip("CACHE_TESTS does not name a checkout of github.com/http-tests/cache-tests; make cache-suite runs it")
	}
	root = absolute(t, root)
	engine := filepath.Join(root, "test-engine")
	_, err := os.Stat(engine)
	old := err != nil
	if old {
		engine = root // the package has its parts side by side
	}
	origin, gateway := port.Addr(t), port.Addr(t)
	startOrigin(t, engine, origin)
	serveSuite(t, gateway, origin)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, "node", "--no-warnings", "cli.mjs")
	run.Dir = engine
	run.Env = append(os.Environ(), "npm_config_base=http://"+gateway, "npm_config_id=", "npm_package_config_id=", "npm_package_config_base=")
	run.Stderr = os.Stderr
	results, err := run.Output()
	if err != nil {
		t.Fatalf("run the suite: %v", err)
	}
	// An empty npm_config_id counts as unset for some shells, so the first line may be words.
	count := exec.CommandContext(ctx, "node", "--input-type=module", "-e", tally, root)
	count.Stdin = strings.NewReader(string(results[strings.IndexByte(string(results), '{'):]))
	count.Stderr = os.Stderr
	lines, err := count.Output()
	if err != nil {
		t.Fatalf("read the results: %v", err)
	}
	judge(t, string(lines), old)
}

func judge(t *testing.T, lines string, old bool) {
	// passed counts by kind and cache, all by kind.
	passed, all := make(map[[2]string]int), make(map[string]int)
	for line := range strings.Lines(lines) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 5)
		if len(f) < 4 {
			t.Fatalf("line %q", line)
		}
		kind, name, pass, id, what := f[0], f[1], f[2] == "true", f[3], strings.Join(f[4:], "")
		if pass {
			passed[[2]string{kind, name}]++
		}
		if name != "ours" {
			continue
		}
		all[kind]++
		switch {
		case pass || kind != "required":
		case byChoice(id, old) != "":
			t.Logf("required test %s: by choice, %s", id, byChoice(id, old))
		default:
			t.Errorf("required test %s fails: %s", id, what)
		}
	}
	of := func(kind, name string) int { return passed[[2]string{kind, name}] }
	for _, kind := range []string{"required", "optimal", "check"} {
		t.Logf("%s: %d of %d; nginx %d, Varnish %d", kind, of(kind, "ours"), all[kind], of(kind, "nginx"), of(kind, "varnish"))
	}
	if of("required", "ours") < max(of("required", "nginx"), of("required", "varnish")) {
		t.Error("a peer passes more of the required tests")
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
func startOrigin(t *testing.T, engine, address string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	c := exec.Command("node", "server/server.mjs")
	c.Dir = engine
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
	config := fmt.Sprintf(`{"admin":{"disabled":true},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}},"apps":{"http":{"servers":{"s":{
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
