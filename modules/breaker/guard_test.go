package breaker

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// hang makes the upstream keep every request until the test ends or the gateway
// gives up on it.
func (u *upstream) hang(t *testing.T) (inside *atomic.Int64) {
	inside = new(atomic.Int64)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	u.does(func(_ http.ResponseWriter, r *http.Request) {
		inside.Add(1)
		defer inside.Add(-1)
		select {
		case <-r.Context().Done():
		case <-end:
		}
	})
	return inside
}

func TestTimeoutEndsTheWaitForAHungUpstream(t *testing.T) {
	u := newUpstream(t)
	u.hang(t)
	h := build(t, `{"policy":{"name":"%s","min_deadline":"1ms","min_requests":2,"open":"1h","open_max":"1h"},"timeout":"20ms","proxy":`+proxyTo(u.addr)+`}`)
	g := serve(t, h)
	for range 2 {
		res, body := g.get(t, "/")
		if res.StatusCode != http.StatusGatewayTimeout || !strings.Contains(body, `"code":"deadline-exceeded"`) {
			t.Fatalf("got %d %s, want 504 with the code deadline-exceeded", res.StatusCode, body)
		}
	}
	if s := h.fixed[0].State(); s != circuit.Open {
		t.Errorf("after two timeouts the circuit is %s, want open", s)
	}
}

func TestDeadlineHoldsUntilTheAnswerBegins(t *testing.T) {
	h := &Handler{Policy: new(Policy)}
	for _, tt := range []struct {
		name     string
		byCaller bool // a gRPC caller's deadline is for the whole call
		want     error
	}{{"route", false, nil}, {"caller", true, errDeadline}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d deadline
				r := d.arm(h, httptest.NewRequest("GET", "/", nil), time.Second, tt.byCaller, time.Now())
				defer d.disarm()
				time.Sleep(999 * time.Millisecond)
				if !d.reached() {
					t.Fatal("an answer in time came too late")
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := context.Cause(r.Context()); got != tt.want {
					t.Errorf("an hour into the body the request ended with %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestDeadlineGoesOnForARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d deadline
		d.arm(&Handler{Policy: new(Policy)}, httptest.NewRequest("GET", "/", nil), time.Second, false, time.Now())
		defer d.disarm()
		time.Sleep(600 * time.Millisecond)
		d.reached() // an answer that asks for a retry
		d.resume(time.Now())
		time.Sleep(399 * time.Millisecond)
		if d.passed() {
			t.Error("passed early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if !d.passed() {
			t.Error("the retry has no deadline")
		}
	})
}

func TestShortDeadlineOfACallerSaysNothing(t *testing.T) {
	u := newUpstream(t)
	u.hang(t)
	h := build(t, `{"policy":{"name":"%s","min_requests":2},"timeout":"5ms","proxy":`+proxyTo(u.addr)+`}`)
	g := serve(t, h)
	for range 5 {
		g.get(t, "/")
	}
	if v := h.fixed[0].View(time.Now()); v.State != circuit.Closed || v.Counts.Total != 0 {
		t.Errorf("deadlines below min_deadline counted: %s, %+v", v.State, v.Counts)
	}
}

func TestHungUpstreamHoldsNoMoreThanConcurrency(t *testing.T) {
	u := newUpstream(t)
	inside := u.hang(t)
	h := build(t, `{"policy":{"name":"%s","min_requests":10000},"timeout":"200ms","concurrency":{"limit":5},"proxy":`+proxyTo(u.addr)+`}`)
	g := serve(t, h)
	stop := make(chan struct{})
	watched := make(chan int64)
	go func() {
		var most int64
		for {
			select {
			case <-stop:
				watched <- most
				return
			default:
				most = max(most, inside.Load())
			}
		}
	}()
	var codes [600]atomic.Int64
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			res, _ := g.get(t, "/")
			codes[res.StatusCode].Add(1)
		})
	}
	wg.Wait()
	close(stop)
	if most := <-watched; most > 5 || most == 0 {
		t.Errorf("%d requests were with the upstream at a time, want 1 to 5", most)
	}
	if got := codes[503].Load() + codes[504].Load(); got != 40 || codes[503].Load() == 0 {
		t.Errorf("%d requests got 503 and %d got 504, want 40 together", codes[503].Load(), codes[504].Load())
	}
	if n := h.route.place.inside.Load(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

func TestPlaceQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p place
		c := &Concurrency{Limit: 1, Queue: 2}
		c.fill()
		if !p.enter(t.Context(), c) {
			t.Fatal("no place in an empty room")
		}
		order := make(chan int, 2)
		for i := range 2 {
			go func() {
				if p.enter(t.Context(), c) {
					order <- i
				}
			}()
			synctest.Wait()
		}
		if p.enter(t.Context(), c) {
			t.Error("the queue took more than its size")
		}
		p.leave(c)
		if first := <-order; first != 0 {
			t.Error("the second in the queue came first")
		}
		p.leave(c)
		<-order

		gone, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { done <- p.enter(gone, c) }()
		synctest.Wait()
		cancel()
		if <-done {
			t.Error("a client that left got a place")
		}
		began := time.Now()
		if p.enter(t.Context(), c) || time.Since(began) != time.Second {
			t.Errorf("waited %s, want the default of 1s", time.Since(began))
		}
		p.leave(c)
		if p.inside.Load() != 0 || p.waiting.Load() != 0 || len(p.queue) != 0 {
			t.Errorf("left behind: %d inside, %d waiting", p.inside.Load(), p.waiting.Load())
		}
	})
}

func TestPlaceHammer(t *testing.T) {
	var p place
	var inside, over, entered atomic.Int64
	c := &Concurrency{Limit: 3, Queue: 100}
	c.fill()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 500 {
				if !p.enter(t.Context(), c) {
					continue
				}
				entered.Add(1)
				if inside.Add(1) > 3 {
					over.Add(1)
				}
				inside.Add(-1)
				p.leave(c)
			}
		})
	}
	wg.Wait()
	if over.Load() > 0 || entered.Load() != 16*500 || p.inside.Load() != 0 || p.waiting.Load() != 0 {
		t.Errorf("%d times over the limit, %d entered, %d inside and %d waiting in the end",
			over.Load(), entered.Load(), p.inside.Load(), p.waiting.Load())
	}
}

func TestAdaptiveLimitFollowsLatency(t *testing.T) {
	var a adaptive
	c := &Concurrency{Adaptive: true}
	c.fill()
	now := time.Unix(1_800_000_000, 0)
	round := func(latency time.Duration, timedOut bool) {
		for range 20 {
			now = now.Add(100 * time.Millisecond)
			a.learn(c, latency, timedOut, a.limit(c.Least, c.Most), now)
		}
	}
	for range 20 {
		round(10*time.Millisecond, false)
	}
	high := a.limit(c.Least, c.Most)
	if high <= startLimit {
		t.Errorf("the limit is %d after steady answers, want growth", high)
	}
	for range 4 {
		round(200*time.Millisecond, false)
	}
	low := a.limit(c.Least, c.Most)
	if low >= high/2 {
		t.Errorf("the limit is %d after latency grew twentyfold, from %d", low, high)
	}
	// The upstream stays slower for good: the limit must not stay low for ever.
	for range 200 {
		round(200*time.Millisecond, false)
	}
	if got := a.limit(c.Least, c.Most); got <= low {
		t.Errorf("the limit is %d and stays at %d", got, low)
	}
	for range 60 {
		round(10*time.Millisecond, true)
	}
	if got := a.limit(c.Least, c.Most); got != int64(c.Least) {
		t.Errorf("the limit is %d after timeouts, want the least, %d", got, c.Least)
	}
}

func TestRetryBudget(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := &RetryBudget{Ratio: 0.2, PerSecond: -1}
	var p purse
	for range 100 {
		p.earn(b)
	}
	var sent int
	for p.spend(b, now) {
		sent++
	}
	if sent != 20 {
		t.Errorf("100 requests paid for %d retries, want 20", sent)
	}
	b.PerSecond = 2
	p.spend(b, now)
	for range 10 {
		now = now.Add(100 * time.Millisecond)
		if p.spend(b, now) {
			sent++
		}
	}
	if sent != 22 {
		t.Errorf("a second paid for %d retries, want 2", sent-20)
	}
}

func TestRetriesStayInTheBudget(t *testing.T) {
	u := newUpstream(t)
	u.does(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	h := build(t, `{"policy":{"name":"%s","min_requests":10000},"retry_budget":{"per_second":-1},
		"proxy":{"upstreams":[{"dial":"`+u.addr+`"}],"load_balancing":{"retries":3}}}`)
	g := serve(t, h)
	const offered = 200
	for range offered {
		if res, _ := g.get(t, "/"); res.StatusCode != http.StatusBadGateway {
			t.Fatalf("got %d, want the proxy's own 502", res.StatusCode)
		}
	}
	if got, most := u.hits.Load(), int64(offered*1.2+purseStart/oneRetry); got > most || got < offered*1.2 {
		t.Errorf("the upstream got %d requests for %d, want %d to %d", got, offered, int64(offered*1.2), most)
	}
}
