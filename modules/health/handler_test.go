package health

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// part stands for an app or a handler with an opinion on readiness.
type part struct {
	id    caddy.ModuleID
	asked *atomic.Int64
	says  *atomic.Pointer[func(context.Context) error]
}

func newPart(id caddy.ModuleID) part {
	p := part{id, new(atomic.Int64), new(atomic.Pointer[func(context.Context) error])}
	p.set(func(context.Context) error { return nil })
	return p
}

func (p part) set(f func(context.Context) error) { p.says.Store(&f) }
func (p part) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: p.id, New: func() caddy.Module { c := p; return &c }}
}
func (part) Start() error { return nil }
func (part) Stop() error  { return nil }
func (p part) Ready(ctx context.Context) error {
	p.asked.Add(1)
	return (*p.says.Load())(ctx)
}
func (part) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

var (
	issuers = newPart("sallyport_issuers")
	redis   = newPart("sallyport_redis")
	proxy   = newPart("http.handlers.ready_proxy")
)

func init() {
	caddy.RegisterModule(issuers)
	caddy.RegisterModule(redis)
	caddy.RegisterModule(proxy)
	for name, p := range map[string]part{"issuers": issuers, "redis": redis} {
		httpcaddyfile.RegisterGlobalOption("test_"+name, func(d *caddyfile.Dispenser, _ any) (any, error) {
			d.Next()
			return httpcaddyfile.App{Name: string(p.id), Value: json.RawMessage("{}")}, nil
		})
	}
	httpcaddyfile.RegisterHandlerDirective("ready_proxy", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		c := proxy
		return &c, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("ready_proxy", httpcaddyfile.Before, "reverse_proxy")
}

type broken struct {
	text    string
	serving bool
}

func (b broken) Error() string  { return b.text }
func (b broken) Degraded() bool { return b.serving }

func failing(text string, serving bool) func(context.Context) error {
	return func(context.Context) error { return broken{text, serving} }
}

func fine(context.Context) error { return nil }

// probe asks afresh.
func probe(t *testing.T, url string) (int, report) {
	t.Helper()
	pulse.mu.Lock()
	pulse.config = nil
	pulse.mu.Unlock()
	return ask1(t, url)
}

func ask1(t *testing.T, url string) (int, report) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var rep report
	if err := json.NewDecoder(res.Body).Decode(&rep); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return res.StatusCode, rep
}

func TestReadiness(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n\ttest_issuers\n\ttest_redis\n}\nhttp://"+addr+" {\n\thealth\n\thandle /x {\n\t\tready_proxy\n\t}\n\thandle /y {\n\t\tready_proxy\n\t}\n\trespond /strict/* ok\n}\n")
	down := errors.New("dial tcp 10.0.0.1:6379: connection refused")
	cases := []struct {
		name                   string
		issuers, redis, proxy  func(context.Context) error
		status                 int
		want                   string
		issuerS, redisS, proxS state
	}{
		{"all well", fine, fine, fine, 200, ready, state{Status: ready}, state{Status: ready}, state{Status: ready}},
		{"redis down", fine, func(context.Context) error { return down }, fine, 200, degraded,
			state{Status: ready}, state{degraded, down.Error()}, state{Status: ready}},
		{"no keys yet", failing("issuer main has no keys yet", false), fine, fine, 503, unready,
			state{unready, "issuer main has no keys yet"}, state{Status: ready}, state{Status: ready}},
		{"stale keys", failing("issuer main: keys are 2h old", true), fine, fine, 200, degraded,
			state{degraded, "issuer main: keys are 2h old"}, state{Status: ready}, state{Status: ready}},
		{"upstreams down", fine, fine, failing("no upstream admits", false), 200, degraded,
			state{Status: ready}, state{Status: ready}, state{degraded, "no upstream admits\nno upstream admits"}},
		{"redis hangs", fine, func(ctx context.Context) error { <-ctx.Done(); select {} }, fine, 200, degraded,
			state{Status: ready}, state{degraded, "no answer within 1s"}, state{Status: ready}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			issuers.set(c.issuers)
			redis.set(c.redis)
			proxy.set(c.proxy)
			defer func() { issuers.set(fine); redis.set(fine); proxy.set(fine) }()
			status, got := probe(t, "http://"+addr+"/health/ready")
			want := report{Status: c.want, Checks: map[string]state{"issuers": c.issuerS, "redis": c.redisS, "upstreams": c.proxS}}
			if diff := cmp.Diff(want, got); status != c.status || diff != "" {
				t.Errorf("got status %d, want %d (-want +got):\n%s", status, c.status, diff)
			}
			if status, rep := probe(t, "http://"+addr+"/health/live"); status != 200 || rep.Status != "alive" {
				t.Errorf("live answers %d %v while the rest fails; a restart would not help", status, rep)
			}
		})
	}
}

func TestPolicyOfTheOperator(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n\ttest_issuers\n\ttest_redis\n}\nhttp://"+addr+" {\n\thealth {\n\t\tready /readyz\n\t\tlive /livez\n\t\trequired redis\n\t\tdegraded issuers\n\t}\n}\n")
	defer func() { issuers.set(fine); redis.set(fine) }()
	issuers.set(failing("no keys yet", false))
	if status, rep := probe(t, "http://"+addr+"/readyz"); status != 200 || rep.Status != degraded {
		t.Errorf("with issuers made degraded: got %d %v", status, rep)
	}
	redis.set(failing("down", true))
	if status, rep := probe(t, "http://"+addr+"/readyz"); status != 503 || rep.Status != unready {
		t.Errorf("with redis made required: got %d %v", status, rep)
	}
}

func TestProbesDoNotLoadADependency(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n\ttest_redis\n}\nhttp://"+addr+" {\n\thealth\n\tmetrics /metrics\n}\n")
	before := redis.asked.Load()
	probe(t, "http://"+addr+"/health/ready")
	for range 50 {
		ask1(t, "http://"+addr+"/health/ready")
	}
	if asked := redis.asked.Load() - before; asked > 5 {
		t.Errorf("51 probes asked redis %d times, want once a second", asked)
	}
	res, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := `sallyport_dependency_up{dependency="redis"} 1`; !strings.Contains(string(body), want) {
		t.Errorf("/metrics lacks %s", want)
	}
}

// Readiness turns false while the listener still answers and liveness stays.
func TestDraining(t *testing.T) {
	addr := gateway.Addr(t)
	config := "{\n\tauto_https off\n\tshutdown_delay 400ms\n\tgrace_period 1s\n}\nhttp://" + addr + " {\n\thealth\n}\n"
	gateway.Run(t, config)
	if status, rep := probe(t, "http://"+addr+"/health/ready"); status != 200 {
		t.Fatalf("before: %d %v", status, rep)
	}
	stopped := make(chan error)
	go func() { stopped <- caddy.Stop() }()
	for deadline := time.Now().Add(5 * time.Second); ; {
		status, rep := ask1(t, "http://"+addr+"/health/ready")
		if status == 503 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %d %v", status, rep)
		}
	}
	status, rep := ask1(t, "http://"+addr+"/health/ready")
	if status != 503 || rep.Status != "draining" && rep.Status != "starting" {
		t.Errorf("while draining: %d %v", status, rep)
	}
	if status, rep := ask1(t, "http://"+addr+"/health/live"); status != 200 {
		t.Errorf("live while draining: %d %v", status, rep)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestOtherRequestsPassThrough(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\thealth\n\trespond passed\n}\n")
	for _, c := range []struct{ method, path, want string }{
		{http.MethodGet, "/", "passed"},
		{http.MethodGet, "/health", "passed"},
		{http.MethodPost, "/health/ready", "passed"},
	} {
		r, err := http.NewRequest(c.method, "http://"+addr+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(body) != c.want {
			t.Errorf("%s %s: got %q, want %q", c.method, c.path, body, c.want)
		}
	}
}

func TestCommand(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n\ttest_issuers\n}\nhttp://"+addr+" {\n\thealth\n}\n")
	defer issuers.set(fine)
	probe(t, "http://"+addr+"/health/ready")
	var out strings.Builder
	if err := ask(t.Context(), &out, "http://"+addr+"/health/ready"); err != nil || !strings.Contains(out.String(), `"status":"ready"`) {
		t.Errorf("ready: got %v and %s", err, out.String())
	}
	issuers.set(failing("no keys yet", false))
	probe(t, "http://"+addr+"/health/ready")
	out.Reset()
	err := ask(t.Context(), &out, "http://"+addr+"/health/ready")
	if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(out.String(), "no keys yet") {
		t.Errorf("not ready: got %v and %s", err, out.String())
	}
	if err := ask(t.Context(), io.Discard, "http://"+gateway.Addr(t)+"/health/ready"); err == nil {
		t.Error("nobody listens, and yet it is healthy")
	}
}
