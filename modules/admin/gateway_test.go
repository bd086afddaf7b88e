package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/test/port"
)

func init() { caddy.RegisterModule(named{}) }

// named stands where jwt would: it believes whatever a header says.
type named struct{}

func (named) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_named", New: func() caddy.Module { return new(named) }}
}

func (named) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	exchange.Of(r).Identity = exchange.Identity{Subject: r.Header.Get("X-Name"), Claims: scopes(r.Header.Get("X-Scope"))}
	return next.ServeHTTP(w, r)
}

type scopes string

func (s scopes) Claim(path string) (any, bool) { return string(s), path == "scope" }

// gateway is one whose admin endpoint is a socket behind a front.
type gateway struct {
	t                        *testing.T
	front, socket, dir, sink string
}

func (g *gateway) caddyfile(greeting string) string {
	return fmt.Sprintf(`{
	admin unix/%s|0600
	auto_https off
	persist_config off
	log default {
		core audit
	}
	audit {
		sink file %s
		spool %s
		node gw
	}
}
http://%s {
	bind 127.0.0.1
	handle_path /admin/* {
		respond "NAMED"
		admin_api {
			permit debug ops
		}
	}
	respond %s
}`, g.socket, g.sink, g.dir, g.front, greeting)
}

func (g *gateway) json(greeting string) []byte {
	g.t.Helper()
	text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(g.caddyfile(greeting)), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	// Respond stands behind admin_api by its order; the stand-in must come first.
	text = bytes.ReplaceAll(text, []byte(`,{"body":"NAMED","handler":"static_response"}`), nil)
	return bytes.ReplaceAll(text, []byte(`{"handler":"admin_api"`), []byte(`{"handler":"test_named"},{"handler":"admin_api"`))
}

func start(t *testing.T) *gateway {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &gateway{t: t, front: port.Addr(t), socket: dir + "/a.sock", dir: filepath.Join(dir, "spool"), sink: filepath.Join(dir, "audit.ndjson")}
	if err := caddy.Load(g.json("one"), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	return g
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (g *gateway) ask(method, path string, body []byte, header ...string) answer {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.front+path, bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("X-Name", "ann")
	req.Header.Set("Content-Type", "application/json")
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

type event struct {
	Type string
	Data struct {
		StatusCode string `json:"status_code"`
		Actor      struct{ User struct{ UID string } }
		API        struct {
			Operation string
			Request   struct{ UID string }
		}
		Unmapped struct {
			BodySHA256   string `json:"body_sha256"`
			ConfigBefore string `json:"config_before"`
			ConfigAfter  string `json:"config_after"`
			Source       string
			Version      int
			Changes      []struct{ Op, Path, From, To string }
			Details      struct{ Method, URI string }
		}
	}
}

// events returns what the sink has, once it has one that ok likes.
func (g *gateway) events(what string, ok func(event) bool) (list []event) {
	g.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(g.sink)
		list = nil
		found := false
		for line := range strings.Lines(string(text)) {
			var e event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				continue // being written
			}
			list = append(list, e)
			found = found || ok(e)
		}
		if found {
			return list
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("the sink never had %s: %s", what, text)
		}
	}
}

func TestCallsAreOnRecord(t *testing.T) {
	g := start(t)
	if a := g.ask("GET", "/hello", nil); a.body != "one" {
		t.Fatalf("before: %+v", a)
	}
	two := g.json("two")
	if a := g.ask("POST", "/admin/load", two); a.status != 200 {
		t.Fatalf("load: %+v", a)
	}
	if a := g.ask("GET", "/hello", nil); a.body != "two" {
		t.Fatalf("after: %+v", a)
	}
	// Whoever has the answer can rely on intent and outcome being on the disk.
	g.events("the change", func(e event) bool { return e.Type == "sallyport.config.changed" && e.Data.Unmapped.Version == 2 })
	list := g.events("the outcome", func(e event) bool { return e.Type == "sallyport.admin.request" })

	var call string
	seen := map[string]int{}
	for _, e := range list {
		seen[e.Type]++
		switch e.Type {
		case "sallyport.admin.intent":
			call = e.Data.API.Request.UID
			if e.Data.API.Operation != "POST /load" || e.Data.Actor.User.UID != "ann" {
				t.Errorf("the intent says %+v", e.Data)
			}
		case "sallyport.admin.request":
			u := e.Data.Unmapped
			if e.Data.API.Request.UID != call || e.Data.StatusCode != "200" || len(u.BodySHA256) != 64 || u.ConfigBefore == u.ConfigAfter || len(u.Changes) == 0 {
				t.Errorf("the outcome says %+v", e.Data)
			}
			for _, c := range u.Changes {
				if strings.Contains(c.From+c.To, "one") || strings.Contains(c.From+c.To, "two") {
					t.Errorf("the difference tells content: %+v", c)
				}
			}
		case "sallyport.config.changed":
			u := e.Data.Unmapped
			switch u.Version {
			case 1:
				if u.Source != "start" || u.ConfigBefore != "" {
					t.Errorf("the first configuration: %+v", e.Data)
				}
			case 2:
				if u.Source != "admin front" || e.Data.Actor.User.UID != "ann" || e.Data.API.Request.UID != call || u.ConfigBefore == u.ConfigAfter {
					t.Errorf("the second configuration: %+v", e.Data)
				}
			}
		}
	}
	if seen["sallyport.admin.intent"] != 1 || seen["sallyport.admin.request"] != 1 || seen["sallyport.config.changed"] != 2 || seen["sallyport.admin.seen"] != 0 {
		t.Errorf("the sink has %v", seen)
	}
}

func TestReadsEtagsAndRefusals(t *testing.T) {
	g := start(t)
	a := g.ask("GET", "/admin/config/apps/http/grace_period", nil)
	etag := a.header.Get("Etag")
	if a.status != 200 || etag == "" {
		t.Fatalf("read: %+v", a)
	}
	if a := g.ask("POST", "/admin/config/apps/http/grace_period", []byte(`"5s"`), "If-Match: "+etag); a.status != 200 {
		t.Errorf("change with the right If-Match: %+v", a)
	}
	if a := g.ask("PATCH", "/admin/config/apps/http/grace_period", []byte(`"6s"`), "If-Match: "+etag); a.status != 412 {
		t.Errorf("change with an old If-Match: %+v", a)
	}
	if a := g.ask("PATCH", "/admin/config/apps/http/grace_period", []byte(`"soon"`)); a.status != 500 || !strings.Contains(a.body, "duration") {
		t.Errorf("change that makes no sense: %+v", a)
	}
	for _, c := range []struct {
		name, method, path, header, code string
		status                           int
	}{
		{"stop", "POST", "/admin/stop", "X-Scope: ops", "admin-forbidden", 403},
		{"stop in disguise", "POST", "/admin//stop", "X-Scope: ops", "admin-forbidden", 403},
		{"stop around a corner", "POST", "/admin/config/%2e%2e/stop", "X-Scope: ops", "admin-forbidden", 403},
		{"debug", "GET", "/admin/debug/vars", "X-Scope: readers", "admin-forbidden", 403},
		{"debug with the scope", "GET", "/admin/debug/vars", "X-Scope: readers ops", "", 200},
		{"a browser", "GET", "/admin/config/", "Origin: https://evil.example.com", "admin-browser", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.ask(c.method, c.path, nil, c.header)
			if a.status != c.status || !strings.Contains(a.body, c.code) {
				t.Errorf("%s %s: %d %.200s, want %d %s", c.method, c.path, a.status, a.body, c.status, c.code)
			}
		})
	}
	g.events("the refusal", func(e event) bool {
		return e.Type == "sallyport.admin.refused" && e.Data.StatusCode == "admin-forbidden"
	})
	g.events("the failed change", func(e event) bool { return e.Type == "sallyport.admin.request" && e.Data.StatusCode == "500" })
}

// Whoever has the socket gets around the front, but not around the record.
func TestTheSocketIsSeen(t *testing.T) {
	g := start(t)
	if info, err := os.Stat(g.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.socket)
	}}}
	resp, err := client.Get("http://127.0.0.1/config/apps")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	g.events("the visit", func(e event) bool {
		return e.Type == "sallyport.admin.seen" && e.Data.Unmapped.Details.URI == "/config/apps" && e.Data.Unmapped.Details.Method == "GET"
	})
}

func TestHistoryAndRollback(t *testing.T) {
	g := start(t)
	if a := g.ask("POST", "/admin/load", g.json("two")); a.status != 200 {
		t.Fatalf("load: %+v", a)
	}
	g.events("version 2", func(e event) bool { return e.Data.Unmapped.Version == 2 })
	var list []struct {
		N  int
		By string
	}
	for deadline := time.Now().Add(10 * time.Second); len(list) < 2; {
		if err := json.Unmarshal([]byte(g.ask("GET", "/admin/sallyport/config/history", nil).body), &list); err != nil || time.Now().After(deadline) {
			t.Fatal(err, list)
		}
	}
	if list[0].N != 2 || list[0].By != "ann" || list[1].By != "" {
		t.Errorf("history: %+v", list)
	}
	o := &office{url: "http://" + g.front + "/admin"}
	var out strings.Builder
	rollback := o.rollback()
	rollback.SetArgs([]string{"1"})
	rollback.SetOut(&out)
	if err := rollback.Execute(); err != nil {
		t.Fatal(err)
	}
	if a := g.ask("GET", "/hello", nil); a.body != "one" {
		t.Errorf("after the rollback to 1: %+v, %s", a, out.String())
	}
	for _, command := range []struct {
		run  func() error
		want string
	}{
		{func() error { c := o.history(); c.SetArgs(nil); c.SetOut(&out); return c.Execute() }, "ann"},
		{func() error { c := o.export(); c.SetArgs(nil); c.SetOut(&out); return c.Execute() }, "\t\"admin\": {"},
	} {
		out.Reset()
		if err := command.run(); err != nil || !strings.Contains(out.String(), command.want) {
			t.Errorf("%v: %s, want %q", err, out.String(), command.want)
		}
	}
}

// Where nothing in front cleans paths, what the endpoint would read
// differently than we do is not let through.
func TestUncleanPaths(t *testing.T) {
	for path, code := range map[string]string{
		"/config/": "", "/config": "", "/load": "", "/": "", "/id/x/y": "",
		"//stop": "admin-path", "/config/../stop": "admin-path", "/./debug/vars": "admin-path", "/config//apps": "admin-path",
		"/stop": "admin-forbidden", "/stop/": "admin-forbidden", "/debug/pprof/": "admin-forbidden",
	} {
		r, err := http.NewRequest("POST", "http://gw/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path = path
		got := ""
		if ref := new(Handler).judge(r); ref != nil {
			got = ref.Code
		}
		if got != code {
			t.Errorf("path %s is refused with %q, want %q", path, got, code)
		}
	}
}
