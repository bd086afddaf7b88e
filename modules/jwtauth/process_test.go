package jwtauth

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// built returns the path of the gateway's binary. With SALLYPORT it is that
// one; else the working tree is built, once.
var built = sync.OnceValues(func() (string, error) { return stage.Binary(suite.dir) })

// daemon is a gateway in a process of its own.
type daemon struct {
	*stage.Process
	admin, home string
	text        settings
	begin       func() error
}

// launch runs the built gateway with one issuer and one site, as start does in
// this process.
func launch(t testing.TB, i *idp, issuerOptions, jwt string) *gateway {
	t.Helper()
	g := new(gateway)
	upstream := g.upstream(t)
	if !hasKeys.MatchString(issuerOptions) {
		issuerOptions = "jwks " + i.URL + "\n" + issuerOptions
	}
	g.run(t, func() (string, string) {
		return fmt.Sprintf("issuer main {\n issuer %s\n audience %s\n %s\n}", i.URL, testAudience, issuerOptions),
			fmt.Sprintf("%s\nreverse_proxy %s", jwt, upstream)
	})
	return g
}

// settings are the global options and the directives of the site.
type settings = func() (global, site string)

// upstream starts the server behind the gateway.
func (g *gateway) upstream(t testing.TB) (address string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		g.mu.Lock()
		g.seen, g.hits = r, g.hits+1
		g.mu.Unlock()
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// run starts the built gateway and ends it after the test, which must be with
// code 0.
func (g *gateway) run(t testing.TB, text settings) {
	t.Helper()
	if err := g.tryRun(t, text); err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) tryRun(t testing.TB, text settings) error {
	t.Helper()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{home: t.TempDir(), text: text}
	g.daemon = d
	d.begin = func() error {
		// Between choosing an address and listening on it, somebody else may.
		for attempt := 0; ; attempt++ {
			d.admin, g.url = freeAddress(t), "http://"+freeAddress(t)
			if err := os.WriteFile(filepath.Join(d.home, "Caddyfile"), []byte(g.config(text)), 0o600); err != nil {
				t.Fatal(err)
			}
			d.Process, err = stage.Gateway{
				Binary: binary, Dir: d.home, Config: filepath.Join(d.home, "Caddyfile"), Log: suite.file("daemon"),
				Env: []string{"HOME=" + d.home, "XDG_DATA_HOME=" + d.home, "XDG_CONFIG_HOME=" + d.home},
			}.Run()
			if err == nil || attempt == 5 || !strings.Contains(err.Error(), "address already in use") {
				return err
			}
		}
	}
	if err := d.begin(); err != nil {
		return err
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if code, err := d.Halt(); code != 0 || err != nil {
			lines := d.Lines()
			t.Errorf("the gateway ended with code %d: %v\n%s", code, err, strings.Join(lines[max(0, len(lines)-150):], "\n"))
		}
	})
	return nil
}

func (g *gateway) config(text settings) string {
	global, site := text()
	return fmt.Sprintf("{\nadmin %s\npersist_config off\ngrace_period 1s\n%s\n%s\n}\n%s {\nlog\nhealth\n%s\n}\n",
		g.admin, suite.logging("stderr"), global, g.url, site)
}

// restart ends the process and starts it with what it kept.
func (g *gateway) restart(t testing.TB) {
	t.Helper()
	if code, err := g.Halt(); code != 0 || err != nil {
		t.Fatalf("the gateway ended with code %d: %v", code, err)
	}
	if err := g.begin(); err != nil {
		t.Fatal(err)
	}
}

// reload has the gateway load these settings instead.
func (g *gateway) reload(t testing.TB, text settings) {
	t.Helper()
	resp, err := http.Post("http://"+g.admin+"/load", "text/caddyfile", strings.NewReader(g.config(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("reload: %d %s, %v", resp.StatusCode, body, err)
	}
}

// metric adds up the series whose line begins with name and holds all labels,
// each written as `name="value"`.
func (g *gateway) metric(t testing.TB, name string, labels ...string) (sum float64) {
	t.Helper()
	for line := range strings.Lines(g.ask(t, "http://"+g.admin+"/metrics")) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		fits := true
		for _, label := range labels {
			fits = fits && strings.Contains(series, label)
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil && fits {
			sum += n
		}
	}
	return sum
}

// ask returns the body of an answer of whatever status.
func (g *gateway) ask(t testing.TB, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// refused is how often tokens were refused for the reason, whoever issued them.
func (g *gateway) refused(t testing.TB, reason string) float64 {
	t.Helper()
	return g.metric(t, "sallyport_jwt_verifications_total", `result="refused"`, `reason="`+reason+`"`)
}

// kept are the files of key sets in the gateway's storage.
func (g *gateway) kept(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(g.home, "caddy", "sallyport", "jwks", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
