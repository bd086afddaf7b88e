package breaker

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// halfOpen is a gate before one upstream whose circuit lets one probe out.
func halfOpen(t *testing.T, u *upstream, more string) *gate {
	t.Helper()
	h := build(t, `{"policy":{"name":"%s","min_requests":1,"open":"1ns","open_max":"1ns","jitter":-1,"probes":1,"successes":1,"half_open_max":"1h","probe_timeout":"1h"},
		"proxy":{"upstreams":[{"dial":"`+u.addr+`"}]`+more+`}}`)
	g := serve(t, h)
	u.does(answer(500))
	g.get(t, "/")
	<-g.seen
	if s := h.fixed[0].State(); s != circuit.Open {
		t.Fatalf("state is %s, want open", s)
	}
	return g
}

func (g *gate) probes() int { return g.h.fixed[0].View(time.Now()).Probes }

// after checks that the probe's place is free again and what it decided.
func (g *gate) after(t *testing.T, want circuit.State) {
	t.Helper()
	<-g.seen
	if n := g.probes(); n != 0 {
		t.Errorf("%d probes are still out", n)
	}
	if s := g.h.fixed[0].State(); s != want {
		t.Errorf("state is %s, want %s", s, want)
	}
}

func TestProbeThatTheClientAborts(t *testing.T) {
	u := newUpstream(t)
	g := halfOpen(t, u, "")
	u.does(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	<-u.arrived
	leave(t, g, u)
	g.after(t, circuit.HalfOpen)
	u.does(answer(200))
	g.get(t, "/")
	g.after(t, circuit.Closed)
}

func TestProbeThatPanics(t *testing.T) {
	u := newUpstream(t)
	g := halfOpen(t, u, "")
	u.does(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		drop(w) // the proxy panics with http.ErrAbortHandler
	})
	res, err := g.Client().Get(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the client got a whole answer")
	}
	g.after(t, circuit.Open)
}

func TestProbeThatUpgrades(t *testing.T) {
	u := newUpstream(t)
	g := halfOpen(t, u, "")
	u.does(echo)
	upgrade(t, g, u)
	g.after(t, circuit.Closed)
}

func TestProbeThatStreamsFreesItsPlaceAtOnce(t *testing.T) {
	u := newUpstream(t)
	g := halfOpen(t, u, "")
	u.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	res, err := g.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if s := g.h.fixed[0].State(); s != circuit.Closed {
		t.Errorf("while the stream goes on the circuit is %s, want closed", s)
	}
	cancel()
	_ = res.Body.Close()
	g.after(t, circuit.Closed)
}

// A selection that the proxy does nothing with must not keep the probe.
func TestProbeThatIsNeverSent(t *testing.T) {
	u := newUpstream(t)
	g := halfOpen(t, u, `,"request_buffers":10,"headers":{"request":{"set":{"Incremental":["?1"]}}}`)
	u.does(answer(200))
	hits := u.hits.Load()
	if res, _ := g.send(t, http.MethodPost, "/", "body"); res.StatusCode != http.StatusNotImplemented {
		t.Fatalf("got %d, want the proxy's refusal to buffer, 501", res.StatusCode)
	}
	if u.hits.Load() != hits {
		t.Fatal("the request was sent")
	}
	g.after(t, circuit.HalfOpen)
}

func TestReloadStormWhileOpen(t *testing.T) {
	u := newUpstream(t)
	u.status.Store(503)
	config := func(i int) string {
		return fmt.Sprintf(`{"policy":{"name":"storm","min_requests":%d,"open":"1h","open_max":"2h"},"proxy":%s}`, 2+i%5, proxyTo(u.addr))
	}
	h := build(t, config(0))
	g := serve(t, h)
	g.get(t, "/")
	g.get(t, "/")
	for i := range 100 {
		next := build(t, config(i))
		if s := next.fixed[0].State(); s != circuit.Open {
			t.Fatalf("after %d reloads the circuit is %s", i, s)
		}
		if next.fixed[0] != h.fixed[0] || next.route != h.route {
			t.Fatalf("reload %d made a new circuit", i)
		}
		if err := h.Cleanup(); err != nil {
			t.Fatal(err)
		}
		h = next
	}
	if n := u.hits.Load(); n != 2 {
		t.Errorf("the upstream got %d requests, want the first two", n)
	}
	if refs, _ := pool.References(key{"storm", u.addr}); refs != 1 {
		t.Errorf("%d configurations hold the circuit, want 1", refs)
	}
}

// TestRace sends everything at once; it is for the race detector.
func TestRace(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.does(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/1":
			drop(w)
		case "/2":
			w.WriteHeader(502)
		default:
			_, _ = io.Copy(w, r.Body)
		}
	})
	h := build(t, `{"policy":{"name":"%s","min_requests":3,"open":"1ms","open_max":"2ms","slow_after":"1s","ramp":"1ms"},"timeout":"5s","concurrency":{"limit":6,"queue":6},
		"fallbacks":[{"kind":"respond","response":{"body":"later"}}],
		"proxy":{"upstreams":[{"dial":"`+good.addr+`"},{"dial":"`+bad.addr+`"},{"dial":"`+deadAddr(t)+`"}],"load_balancing":{"retries":2}}}`)
	g := serve(t, h)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 60 {
				g.send(t, []string{http.MethodGet, http.MethodPost}[i%2], fmt.Sprintf("/%d", (i+worker)%4), strings.Repeat("x", i*100))
			}
		})
	}
	wg.Wait()
	if n := h.route.place.inside.Load(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}
