package breaker

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// pair is a gate before two upstreams that hedges after a millisecond. The
// first gets every request.
func pair(t *testing.T, policy, more string) (g *gate, first, second *upstream) {
	t.Helper()
	first, second = newUpstream(t), newUpstream(t)
	h := build(t, `{"policy":{"name":"%s"`+policy+`},"hedge":{"after":"1ms"}`+more+`,"proxy":{
		"upstreams":[{"dial":"`+first.addr+`"},{"dial":"`+second.addr+`"}],"load_balancing":{"selection_policy":{"policy":"first"}}}}`)
	return serve(t, h), first, second
}

func TestHedgeTakesTheFirstGoodAnswer(t *testing.T) {
	g, first, second := pair(t, "", "")
	ended := make(chan struct{})
	first.does(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // the attempt that lost is ended
		close(ended)
	})
	second.does(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "second "+r.Host) })
	res, body := g.get(t, "/")
	if res.StatusCode != 200 || body[:6] != "second" {
		t.Errorf("got %d %q, want the second's answer", res.StatusCode, body)
	}
	<-ended
	if c := g.h.byDial[first.addr].View(time.Now()).Counts; c.Total != 0 {
		t.Errorf("an attempt that lost counted: %+v", c)
	}
	if c := g.h.byDial[second.addr].View(time.Now()).Counts; c.Total != 1 || c.Failures != 0 {
		t.Errorf("the attempt that won counted %+v", c)
	}
}

func TestHedgeThatLosesIsSlowIfItWas(t *testing.T) {
	g, first, _ := pair(t, `,"slow_after":"1ms","slow_ratio":1,"min_requests":3`, "")
	first.hang(t)
	for range 3 {
		g.get(t, "/")
	}
	if s := g.h.byDial[first.addr].State(); s != circuit.Open {
		t.Errorf("an upstream that hangs behind hedges is %s, want open", s)
	}
}

func TestHedgePassesOverFailures(t *testing.T) {
	g, first, second := pair(t, "", "")
	counted := func() int { return g.h.byDial[second.addr].View(time.Now()).Counts.Failures }
	first.does(func(w http.ResponseWriter, r *http.Request) {
		for counted() == 0 && r.Context().Err() == nil {
			runtime.Gosched()
		}
		_, _ = io.WriteString(w, "first")
	})
	second.does(answer(502))
	if res, body := g.get(t, "/"); res.StatusCode != 200 || body != "first" {
		t.Errorf("got %d %q, want the first's late answer", res.StatusCode, body)
	}
	if n := counted(); n != 1 {
		t.Errorf("the second's failure counted %d times", n)
	}
}

func TestHedgeIsForRepeatableRequests(t *testing.T) {
	g, first, second := pair(t, "", "")
	first.does(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-time.After(20 * time.Millisecond)
	})
	g.send(t, http.MethodPost, "/", "order")
	g.send(t, http.MethodDelete, "/", "")
	if n := second.hits.Load(); n != 0 {
		t.Errorf("%d requests that may not be repeated were", n)
	}
}

func TestHedgeStaysInTheBudget(t *testing.T) {
	g, first, second := pair(t, "", `,"retry_budget":{"ratio":0.1,"per_second":-1}`)
	first.does(func(http.ResponseWriter, *http.Request) { <-time.After(10 * time.Millisecond) })
	for range 60 {
		g.get(t, "/")
	}
	if n, most := second.hits.Load(), int64(60*0.1+purseStart/oneRetry); n == 0 || n > most {
		t.Errorf("%d hedges, want 1 to %d", n, most)
	}
}

func TestHedgeClientLeaves(t *testing.T) {
	g, first, second := pair(t, "", "")
	first.hang(t)
	second.hang(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	go func() {
		<-first.arrived
		<-second.arrived
		cancel()
	}()
	if res, err := g.Client().Do(req); err == nil {
		t.Errorf("got %d after leaving", res.StatusCode)
	}
	<-g.seen
	for _, c := range g.h.fixed {
		if n := c.View(time.Now()).Counts.Total; n != 0 {
			t.Errorf("a client that left counted %d times", n)
		}
	}
}

func TestHedgeRace(t *testing.T) {
	g, first, _ := pair(t, "", `,"timeout":"5s"`)
	first.does(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path)%2 == 0 {
			<-time.After(2 * time.Millisecond)
		}
		_, _ = w.Write(make([]byte, 1<<15))
	})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for i := range 40 {
				if res, _ := g.get(t, "/x"[:1+i%2]); res.StatusCode != 200 {
					t.Errorf("got %d", res.StatusCode)
				}
			}
		})
	}
	wg.Wait()
}
