package ratelimit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// provisioned returns a handler that is ready to serve.
func provisioned(t testing.TB, config string) *Handler {
	t.Helper()
	return provisionedStore(t, config, "")
}

func provisionedStore(t testing.TB, config, store string) *Handler {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	h := new(Handler)
	if err := json.Unmarshal([]byte(config), h); err != nil {
		t.Fatal(err)
	}
	h.Store = store
	t.Cleanup(func() { _ = h.Cleanup() })
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	return h
}

func zoneName(t testing.TB) string { return t.Name() }

// prepared returns a request as Caddy's server hands it to the routes.
func prepared(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
}

var ok200 = caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusOK)
	return nil
})

func serve(t testing.TB, h *Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, ok200); err != nil {
		t.Fatalf("ServeHTTP: %v", err)
	}
	return w
}

func TestAnswersCarryTheQuota(t *testing.T) {
	name := zoneName(t)
	h := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"{http.request.host}","rate":"60/1h","burst":3}}}`, name))
	for i := range 3 {
		w := serve(t, h, prepared("GET", "http://a.example/"))
		got := map[string]string{
			"status": fmt.Sprint(w.Code), "limit": w.Header().Get("RateLimit"),
			"policy": w.Header().Get("RateLimit-Policy"), "retry": w.Header().Get("Retry-After"),
		}
		want := map[string]string{
			"status": "200", "limit": fmt.Sprintf("%q;r=%d;t=%d", name, 2-i, 60*(i+1)),
			"policy": fmt.Sprintf("%q;q=3;w=180", name), "retry": "",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("answer %d (-want +got):\n%s", i+1, diff)
		}
	}

	r := prepared("GET", "http://a.example/")
	w := serve(t, h, r)
	var problem map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		t.Fatalf("body %q: %v", w.Body, err)
	}
	delete(problem, "detail")
	want := map[string]any{
		"type": problemTypes + "quota-exceeded", "title": "Too many requests", "code": "quota-exceeded",
		"status": 429.0, "violated-policies": []any{name},
	}
	if diff := cmp.Diff(want, problem); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	if w.Code != 429 || w.Header().Get("Retry-After") != "60" || w.Header().Get("RateLimit") != fmt.Sprintf("%q;r=0;t=60", name) {
		t.Errorf("refused answer is %d %v, want 429 with Retry-After 60 and r=0", w.Code, w.Header())
	}
	if z := exchange.Of(r).Zones; len(z) != 1 || z[0].Result != "refused" || z[0].RetryAfter <= 0 {
		t.Errorf("zones on the card = %+v, want one refused", z)
	}
	if w := serve(t, h, prepared("GET", "http://b.example/")); w.Code != 200 {
		t.Errorf("another key gets %d, want 200", w.Code)
	}
}

func TestZonesChargeAllOrNone(t *testing.T) {
	wide, narrow := zoneName(t)+"-wide", zoneName(t)+"-narrow"
	h := provisioned(t, fmt.Sprintf(`{"rate_limits":{
		%q:{"key":"all","rate":"10/1h"},
		%q:{"key":"{http.request.host}","rate":"1/1h"}}}`, wide, narrow))
	for i, want := range []int{200, 429, 429, 429} {
		if w := serve(t, h, prepared("GET", "http://a.example/")); w.Code != want {
			t.Errorf("request %d gets %d, want %d", i+1, w.Code, want)
		}
	}
	r := prepared("GET", "http://b.example/")
	serve(t, h, r)
	for _, z := range exchange.Of(r).Zones {
		if z.Name == wide && z.Remaining != 8 {
			t.Errorf("after 2 admitted and 3 refused requests the wide zone has %d left, want 8", z.Remaining)
		}
	}
}

func TestStateOutlivesReload(t *testing.T) {
	name := zoneName(t)
	config := fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","rate":"%s"}}}`, name, "%s")
	old := provisioned(t, fmt.Sprintf(config, "2/1h"))
	serve(t, old, prepared("GET", "/"))
	serve(t, old, prepared("GET", "/"))
	next := provisioned(t, fmt.Sprintf(config, "4/1h"))
	if err := old.Cleanup(); err != nil {
		t.Fatal(err)
	}
	var got []int
	for range 4 {
		got = append(got, serve(t, next, prepared("GET", "/")).Code)
	}
	// Two requests at 2/h are one hour of debt, which is all that 4/h allows.
	if diff := cmp.Diff([]int{429, 429, 429, 429}, got); diff != "" {
		t.Errorf("after the reload (-want +got):\n%s", diff)
	}
}

// Caddy cleans a configuration up while its last requests are still served.
func TestCleanupLeavesRequestsInFlightAlone(t *testing.T) {
	h := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","rate":"1000/1m"}}}`, zoneName(t)))
	var requests sync.WaitGroup
	served := make(chan struct{}, 100)
	requests.Go(func() {
		for range cap(served) {
			if err := h.ServeHTTP(httptest.NewRecorder(), prepared("GET", "http://a.example/"), ok200); err != nil {
				t.Errorf("ServeHTTP: %v", err)
			}
			served <- struct{}{}
		}
	})
	<-served
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	requests.Wait()
}

func TestRefusedConfigChangesNothing(t *testing.T) {
	name := zoneName(t)
	live := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","rate":"2/1h"}}}`, name))
	serve(t, live, prepared("GET", "/"))
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	bad := &Handler{RateLimits: map[string]*Zone{
		name: {Key: "all", Rate: "900/1s"}, name + "-bad": {Key: "all", Rate: "nonsense"},
	}}
	if err := bad.Provision(ctx); err == nil {
		t.Fatal("a zone with rate 'nonsense' provisions")
	}
	_ = bad.Cleanup()
	if got := serve(t, live, prepared("GET", "/")).Code; got != 200 {
		t.Errorf("second of 2 requests gets %d, want 200", got)
	}
	if got := serve(t, live, prepared("GET", "/")).Code; got != 429 {
		t.Errorf("third of 2 requests gets %d, want 429", got)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		name, template, value, same string
	}{
		{"one caller owns a /64", "{http.vars.k}", "2001:db8::1", "2001:db8::ffff:2"},
		{"mapped IPv4 is that IPv4", "{http.vars.k}", "::ffff:192.0.2.1", "192.0.2.1"},
		{"NAT64 is that IPv4", "{http.vars.k}", "64:ff9b::192.0.2.1", "192.0.2.1"},
		{"6to4 is that IPv4", "{http.vars.k}", "2002:c000:201::9", "192.0.2.1"},
		{"zone ids do not count", "{http.vars.k}", "fe80::1%eth0", "fe80::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if a, b := fill(t, c.template, c.value), fill(t, c.template, c.same); a != b {
				t.Errorf("%s is %q, %s is %q; want one key", c.value, a, c.same, b)
			}
		})
	}
	if a, b := fill(t, "{http.vars.k}", "2001:db8::1"), fill(t, "{http.vars.k}", "2001:db8:0:1::1"); a == b {
		t.Errorf("two /64 networks share the key %q", a)
	}
	if a, b := fill(t, "{http.vars.k} {http.vars.l}", "a b", "c"), fill(t, "{http.vars.k} {http.vars.l}", "a", "b c"); a == b {
		t.Errorf("two pairs of values share the key %q", a)
	}
}

func fill(t *testing.T, text string, values ...string) string {
	t.Helper()
	repl := caddy.NewReplacer()
	for i, v := range values {
		repl.Set([]string{"http.vars.k", "http.vars.l"}[i], v)
	}
	template := newTemplate(text, 32, 64)
	key, _ := template.fill(repl)
	return key
}

func TestTableStaysBoundedUnderAScan(t *testing.T) {
	made, _ := newTable()
	tab := made.(*table)
	r, err := (&Zone{name: "z"}).newRule("default", "100/1m")
	if err != nil {
		t.Fatal(err)
	}
	const most = 6400
	take := func(key string, now float64) float64 {
		s := tab.shard(key)
		s.mu.Lock()
		defer s.mu.Unlock()
		e := s.claimLocked(key, now, most)
		wait := r.wait(&e.memo, now, 1)
		if wait <= 0 {
			r.spend(&e.memo, now, 1)
			e.expires = r.expires(&e.memo, now)
		}
		return wait
	}
	now := 1e12
	for range 100 {
		take("busy", now)
	}
	for i := range 50_000 {
		take(fmt.Sprint("scan-", i), now)
		now++
	}
	if n := tab.keys(); n > most {
		t.Errorf("the table holds %d keys, want at most %d", n, most)
	}
	if wait := take("busy", now); wait <= 0 {
		t.Error("a scan of addresses made the table forget a caller at its limit")
	}
	for i := range 2 * most {
		now += 1e6
		take(fmt.Sprint("late-", i), now)
	}
	if n := tab.keys(); n > most/2 {
		t.Errorf("long after the scan the table holds %d keys, want at most half of %d", n, most)
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	h := &Handler{RateLimits: map[string]*Zone{b.Name(): {Key: "{http.request.host}", Rate: "1000000000/1s"}}}
	if err := h.Provision(ctx); err != nil {
		b.Fatal(err)
	}
	defer h.Cleanup()
	r := prepared("GET", "http://a.example/")
	w := httptest.NewRecorder()
	x := exchange.Of(r)
	b.ReportAllocs()
	for b.Loop() {
		x.Zones = x.Zones[:0]
		if err := h.ServeHTTP(w, r, ok200); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	made, _ := newTable()
	r, err := (&Zone{name: "z"}).newRule("default", "1000000000/1s")
	if err != nil {
		b.Fatal(err)
	}
	z := &Zone{table: made.(*table)}
	asks := []ask{{zone: z, rule: r, key: "192.0.2.1", cost: 1}}
	now := 1e12
	b.ReportAllocs()
	for b.Loop() {
		takeLocal(asks, now)
		now++
	}
}

func withClientIP(r *http.Request, ip string) *http.Request {
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, ip)
	return r
}
