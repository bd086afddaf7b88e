package breaker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/test/port"
)

// gate is a Handler behind a listening server, as Caddy would run it.
type gate struct {
	*httptest.Server
	h       *Handler
	entered chan struct{}      // one for each request that came
	seen    chan *http.Request // requests after they were served
}

var names atomic.Int64

// build provisions a handler from JSON. %s stands for a policy name that no
// other test uses: circuits outlive the configuration that made them.
func build(t testing.TB, config string) *Handler {
	t.Helper()
	config = strings.ReplaceAll(config, "%s", fmt.Sprintf("test-%d", names.Add(1)))
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(ctx)
	t.Cleanup(cancel)
	mod, err := ctx.LoadModuleByID("http.handlers.breaker", json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	return mod.(*Handler)
}

func serve(t testing.TB, h *Handler) *gate {
	t.Helper()
	g := front(t, h)
	g.h = h
	return g
}

// front runs any handler as Caddy's HTTP server would.
func front(t testing.TB, h caddyhttp.MiddlewareHandler) *gate {
	t.Helper()
	g := &gate{entered: make(chan struct{}, 10000), seen: make(chan *http.Request, 10000)}
	server := new(caddyhttp.Server)
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repl := caddy.NewReplacer()
		r = caddyhttp.PrepareRequest(r, repl, w, server)
		caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, false)
		ip, _, _ := net.SplitHostPort(r.RemoteAddr)
		if as := r.Header.Get("X-Test-Client"); as != "" {
			ip = as
		}
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, ip)
		g.entered <- struct{}{}
		defer func() { g.seen <- r }()
		err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
		if he, ok := err.(caddyhttp.HandlerError); ok {
			http.Error(w, http.StatusText(he.StatusCode), he.StatusCode)
		} else if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	g.Config.Protocols = protocols
	g.Start()
	t.Cleanup(g.Close)
	return g
}

// get sends one request and returns the answer with its body.
func (g *gate) get(t testing.TB, path string) (*http.Response, string) {
	t.Helper()
	return g.send(t, http.MethodGet, path, "")
}

func (g *gate) send(t testing.TB, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, g.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// upstream is a server whose answers the test can change.
type upstream struct {
	*httptest.Server
	addr    string
	status  atomic.Int64
	hits    atomic.Int64
	arrived chan struct{} // one for each hit, as long as there is room
	handler atomic.Pointer[http.HandlerFunc]
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{arrived: make(chan struct{}, 10)}
	u.status.Store(http.StatusOK)
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.hits.Add(1)
		select {
		case u.arrived <- struct{}{}:
		default:
		}
		if f := u.handler.Load(); f != nil {
			(*f)(w, r)
			return
		}
		w.WriteHeader(int(u.status.Load()))
		_, _ = io.WriteString(w, "answer of the upstream")
	}))
	u.addr = u.Listener.Addr().String()
	t.Cleanup(u.Close)
	return u
}

// does changes what the upstream does.
func (u *upstream) does(f http.HandlerFunc) { u.handler.Store(&f) }

// deadAddr is an address that refuses connections.
func deadAddr(t testing.TB) string {
	t.Helper()
	return port.Addr(t)
}

func proxyTo(addrs ...string) string {
	var b strings.Builder
	for i, a := range addrs {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"dial":%q}`, a)
	}
	return `{"upstreams":[` + b.String() + `]}`
}

func TestFailingUpstreamIsCutOffAndFallbackAnswers(t *testing.T) {
	u := newUpstream(t)
	g := serve(t, build(t, `{"policy":{"name":"%s","min_requests":4,"open":"1h"},
		"fallbacks":[{"kind":"respond","response":{"body":"{\"degraded\":true}","status_code":503}}],
		"proxy":`+proxyTo(u.addr)+`}`))

	u.status.Store(http.StatusInternalServerError)
	for range 4 {
		if res, body := g.get(t, "/"); res.StatusCode != 500 || body != "answer of the upstream" {
			t.Fatalf("before the trip got %d %q, want the upstream's own 500", res.StatusCode, body)
		}
	}
	res, body := g.send(t, http.MethodPost, "/", "order")
	if res.StatusCode != 503 || body != `{"degraded":true}` {
		t.Fatalf("after the trip got %d %q, want the fallback", res.StatusCode, body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json",
		"Proxy-Status": `sallyport; error=destination_unavailable; details="circuit-open"`,
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if res.Header.Get("Retry-After") == "" {
		t.Error("the fallback sends no Retry-After")
	}
	if hits := u.hits.Load(); hits != 4 {
		t.Errorf("the upstream got %d requests, want none after the trip's 4", hits)
	}
}

func TestRefusalWithoutFallback(t *testing.T) {
	h := build(t, `{"policy":{"name":"%s"},"proxy":`+proxyTo(deadAddr(t))+`}`)
	h.fixed[0].Force(time.Now(), circuit.ForcedOpen, time.Hour, "test")
	g := serve(t, h)
	res, body := g.get(t, "/")
	if res.StatusCode != 503 || !strings.Contains(body, `"code":"circuit-open"`) {
		t.Errorf("got %d %s, want a problem with the code circuit-open", res.StatusCode, body)
	}
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestDeadUpstreamCostsNoMoreThanMinRequests(t *testing.T) {
	u, dead := newUpstream(t), deadAddr(t)
	h := build(t, `{"policy":{"name":"%s","min_requests":5,"open":"1h"},"proxy":`+proxyTo(u.addr, dead)+`}`)
	g := serve(t, h)
	var failed int
	for range 100 {
		if res, _ := g.send(t, http.MethodPost, "/", "order"); res.StatusCode != 200 {
			failed++
			if h.byDial[dead].State() == circuit.Open && failed > 5 {
				t.Fatalf("request %d failed with %d after the trip", failed, res.StatusCode)
			}
		}
	}
	if failed > 5 {
		t.Errorf("%d requests failed, want at most min_requests", failed)
	}
	if s := h.byDial[dead].State(); s != circuit.Open {
		t.Errorf("the dead upstream's circuit is %s, want open", s)
	}
}

func TestProbesBringTheUpstreamBack(t *testing.T) {
	u := newUpstream(t)
	h := build(t, `{"policy":{"name":"%s","min_requests":2,"open":"1ms","open_max":"1ms","probes":1,"successes":2},"proxy":`+proxyTo(u.addr)+`}`)
	g := serve(t, h)
	u.status.Store(http.StatusBadGateway)
	for range 2 {
		g.get(t, "/")
	}
	if s := h.fixed[0].State(); s != circuit.Open {
		t.Fatalf("state is %s, want open", s)
	}
	u.status.Store(http.StatusOK)
	for h.fixed[0].State() != circuit.Closed {
		g.get(t, "/") // ends when the probes did their work, or the test's time is over
	}
	if res, _ := g.get(t, "/"); res.StatusCode != 200 {
		t.Errorf("got %d after recovery", res.StatusCode)
	}
}

func TestStateSurvivesAReload(t *testing.T) {
	u := newUpstream(t)
	config := `{"policy":{"name":"reloaded","min_requests":2,"open":"1h","open_max":"2h"},"proxy":` + proxyTo(u.addr) + `}`
	g := serve(t, build(t, config))
	u.status.Store(http.StatusServiceUnavailable)
	g.get(t, "/")
	g.get(t, "/")

	// New thresholds, another handler, the same name and address.
	after := build(t, strings.Replace(config, `"min_requests":2`, `"min_requests":50`, 1))
	if err := g.h.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if s := after.fixed[0].State(); s != circuit.Open {
		t.Errorf("after the reload the circuit is %s, want open", s)
	}
	if res, _ := serve(t, after).get(t, "/"); res.StatusCode != 503 || u.hits.Load() != 2 {
		t.Errorf("after the reload got %d and %d hits, want 503 and the 2 from before", res.StatusCode, u.hits.Load())
	}
}

func contextWith(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func readAll(res *http.Response) (string, error) {
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// middleware is a function as Caddy's handlers are.
type middleware func(http.ResponseWriter, *http.Request) error

func (m middleware) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return m(w, r)
}
