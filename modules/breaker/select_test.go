package breaker

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// threeWay is a gate before three upstreams.
func threeWay(t *testing.T, policy, proxy string) (*gate, [3]*upstream) {
	t.Helper()
	u := [3]*upstream{newUpstream(t), newUpstream(t), newUpstream(t)}
	to := strings.TrimSuffix(proxyTo(u[0].addr, u[1].addr, u[2].addr), "}")
	h := build(t, `{"policy":{"name":"%s"`+policy+`},"proxy":`+to+proxy+`}}`)
	return serve(t, h), u
}

func (g *gate) force(addr string, s circuit.State) {
	g.h.byDial[addr].Force(time.Now(), s, time.Hour, "test")
}

func TestEveryPolicyAvoidsOpenCircuits(t *testing.T) {
	for _, policy := range []string{
		`{"policy":"random"}`, `{"policy":"round_robin"}`, `{"policy":"least_conn"}`, `{"policy":"first"}`, `{"policy":"ip_hash"}`,
		`{"policy":"client_ip_hash"}`, `{"policy":"uri_hash"}`, `{"policy":"random_choose","choose":2}`, `{"policy":"header","field":"X-Key"}`,
		`{"policy":"query","key":"k"}`, `{"policy":"cookie","name":"lb"}`, `{"policy":"weighted_round_robin","weights":[8,1,1]}`,
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(policy+method, func(t *testing.T) {
				g, u := threeWay(t, "", `,"load_balancing":{"selection_policy":`+policy+`}`)
				g.force(u[0].addr, circuit.ForcedOpen)
				for i := range 60 {
					if res, _ := g.send(t, method, fmt.Sprintf("/%d?k=%d", i, i), "body"); res.StatusCode != 200 {
						t.Fatalf("got %d", res.StatusCode)
					}
				}
				if n := u[0].hits.Load(); n != 0 {
					t.Errorf("the open one got %d requests", n)
				}
				if u[1].hits.Load()+u[2].hits.Load() != 60 {
					t.Errorf("the others got %d and %d, want 60 together", u[1].hits.Load(), u[2].hits.Load())
				}
			})
		}
	}
}

func TestWeightsHoldAroundAnOpenCircuit(t *testing.T) {
	g, u := threeWay(t, "", `,"load_balancing":{"selection_policy":{"policy":"weighted_round_robin","weights":[5,4,1]}}`)
	g.force(u[0].addr, circuit.ForcedOpen)
	for range 100 {
		g.get(t, "/")
	}
	if a, b := u[1].hits.Load(), u[2].hits.Load(); a < 70 || a > 90 || a+b != 100 {
		t.Errorf("weights 4 and 1 got %d and %d of 100", a, b)
	}
}

func TestMaxEjectedKeepsThoseThatOpenedLast(t *testing.T) {
	g, u := threeWay(t, `,"max_ejected":0.34`, "")
	g.force(u[2].addr, circuit.ForcedOpen)
	g.force(u[0].addr, circuit.ForcedOpen)
	g.force(u[1].addr, circuit.ForcedOpen)
	for range 60 {
		if res, _ := g.get(t, "/"); res.StatusCode != 200 {
			t.Fatalf("got %d", res.StatusCode)
		}
	}
	if n := u[2].hits.Load(); n != 0 {
		t.Errorf("the first that opened got %d requests", n)
	}
	if u[0].hits.Load() == 0 || u[1].hits.Load() == 0 {
		t.Error("those that opened later got none")
	}
}

func TestPanicUsesTheWholePool(t *testing.T) {
	g, u := threeWay(t, `,"panic":0.5`, "")
	g.force(u[0].addr, circuit.ForcedOpen)
	for range 30 {
		g.get(t, "/")
	}
	if u[0].hits.Load() != 0 {
		t.Error("two of three are enough, yet the open one is used")
	}
	g.force(u[1].addr, circuit.ForcedOpen)
	for range 60 {
		g.get(t, "/")
	}
	if u[0].hits.Load() == 0 || u[1].hits.Load() == 0 {
		t.Error("one of three is left, yet open ones are not used")
	}
}

func TestShadowRefusesNobody(t *testing.T) {
	g, u := threeWay(t, `,"mode":"shadow","min_requests":2`, "")
	for i := range u {
		u[i].status.Store(500)
	}
	for range 30 {
		if res, body := g.get(t, "/"); res.StatusCode != 500 || body != "answer of the upstream" {
			t.Fatalf("got %d %q, want the upstream's answer", res.StatusCode, body)
		}
	}
	for _, c := range g.h.fixed {
		if s := c.State(); s != circuit.Open {
			t.Errorf("a shadow circuit is %s, want open", s)
		}
	}
}

// TestShadowDecidesLikeEnforce runs the same results through both modes: the
// circuits must go through the same states at the same requests.
func TestShadowDecidesLikeEnforce(t *testing.T) {
	script := []int{200, 500, 500, 200, 500, 500, 500, 200, 200, 404, 500, 503, 502, 200}
	var logs [2][]string
	for i, mode := range []string{enforce, shadow} {
		u := newUpstream(t)
		h := build(t, `{"policy":{"name":"%s","mode":"`+mode+`","min_requests":4,"consecutive":-1,"open":"1h","open_max":"1h"},"proxy":`+proxyTo(u.addr)+`}`)
		g := serve(t, h)
		for _, status := range script {
			u.status.Store(int64(status))
			would := h.fixed[0].Peek(time.Now(), &h.settings)
			g.get(t, "/")
			logs[i] = append(logs[i], fmt.Sprint(would, h.fixed[0].State()))
		}
	}
	if a, b := strings.Join(logs[0], "\n"), strings.Join(logs[1], "\n"); a != b {
		t.Errorf("enforce decided\n%s\nshadow\n%s", a, b)
	}
}

func TestClientThatLeavesEndsTheWait(t *testing.T) {
	// All upstreams are full, so that the proxy waits for one.
	u := newUpstream(t)
	inside := u.hang(t)
	h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"`+u.addr+`","max_requests":1}],
		"load_balancing":{"try_duration":"1h","try_interval":"1ms"}}}`)
	g := serve(t, h)
	go g.Client().Get(g.URL) //nolint:errcheck // it takes the only place until the test ends
	<-u.arrived
	<-g.entered
	ctx, cancel := contextWith(t)
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = g.Client().Do(req)
	}()
	<-g.entered
	cancel()
	<-done
	g.CloseClientConnections()
	<-g.seen // both handlers return, an hour before their time
	<-g.seen
	if n := u.hits.Load(); n != 1 {
		t.Errorf("the upstream got %d requests, %d inside", n, inside.Load())
	}
}

func TestOpenCircuitDoesNotWait(t *testing.T) {
	u := newUpstream(t)
	h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"`+u.addr+`"}],"load_balancing":{"try_duration":"1h"}}}`)
	h.fixed[0].Force(time.Now(), circuit.ForcedOpen, time.Hour, "test")
	if res, _ := serve(t, h).get(t, "/"); res.StatusCode != 503 {
		t.Errorf("got %d, want 503 at once", res.StatusCode)
	}
}

// pick is a source of upstreams for the tests.
type pick struct {
	Addrs []string `json:"addrs"`
}

func (*pick) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.upstreams.test_pick", New: func() caddy.Module { return new(pick) }}
}

func (p *pick) GetUpstreams(*http.Request) (all []*reverseproxy.Upstream, _ error) {
	for _, a := range p.Addrs {
		all = append(all, &reverseproxy.Upstream{Dial: a})
	}
	return all, nil
}

func init() { caddy.RegisterModule(new(pick)) }

func TestDynamicUpstreamsHaveCircuits(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.status.Store(502)
	h := build(t, fmt.Sprintf(`{"policy":{"name":"%%s","min_requests":3,"open":"1h","open_max":"1h"},
		"proxy":{"dynamic_upstreams":{"source":"test_pick","addrs":[%q,%q]}}}`, good.addr, bad.addr))
	g := serve(t, h)
	for range 60 {
		g.get(t, "/")
	}
	if n := bad.hits.Load(); n != 3 {
		t.Errorf("the bad one got %d requests, want 3", n)
	}
	bad.status.Store(200)
	good.status.Store(500)
	for range 100 {
		g.get(t, "/")
	}
	if res, body := g.get(t, "/"); res.StatusCode != 503 || !strings.Contains(body, "circuit-open") {
		t.Errorf("with both open got %d %s", res.StatusCode, body)
	}
}

func TestPlaceholderUpstreamsAreRefusedInTheTransport(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.status.Store(502)
	h := build(t, `{"policy":{"name":"%s","min_requests":3,"open":"1h","open_max":"1h"},"proxy":`+proxyTo("{http.request.uri.query.to}")+`}`)
	g := serve(t, h)
	for range 10 {
		g.get(t, "/?to="+bad.addr)
	}
	if n := bad.hits.Load(); n != 3 {
		t.Errorf("the bad one got %d requests, want 3", n)
	}
	if res, body := g.get(t, "/?to="+bad.addr); res.StatusCode != 503 || !strings.Contains(body, "circuit-open") {
		t.Errorf("got %d %s, want the refusal", res.StatusCode, body)
	}
	if res, _ := g.get(t, "/?to="+good.addr); res.StatusCode != 200 {
		t.Errorf("the good one got %d", res.StatusCode)
	}
}

func TestHerdForgetsAndIsBounded(t *testing.T) {
	h := &herd{policy: "herd"}
	h.byDial.Store(&map[string]*tracked{})
	now := time.Unix(1_800_000_000, 0)
	for i := range herdMax + 10 {
		h.of(fmt.Sprintf("host-%d:80", i), now.Add(time.Duration(i)*time.Second/10))
	}
	if n := len(*h.byDial.Load()); n != herdMax {
		t.Errorf("%d circuits, want at most %d", n, herdMax)
	}
	later := now.Add(2 * herdIdle)
	h.of("new:80", later)
	if n := len(*h.byDial.Load()); n != 1 {
		t.Errorf("%d circuits after two idle hours, want the new one only", n)
	}
}
