package ratelimit

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// The patterns once more, on a real Redis, with several gateways in one process
// that share a clock: what the simulation leaves out is the wire, the script
// and the scheduler.
func TestAccuracyOnRedis(t *testing.T) {
	server := redistest.Start(t)
	for _, mode := range []string{"strict", "adaptive"} {
		for _, nodes := range []int{4, 10} {
			if !full() && (nodes == 10) != (mode == "adaptive") {
				continue // the simulation has all four
			}
			lasting := map[string]time.Duration{"strict": 200 * time.Millisecond, "adaptive": 800 * time.Millisecond}[mode]
			if full() {
				lasting *= 20
			}
			name := fmt.Sprintf("%s N=%d", mode, nodes)
			for n, p := range patterns {
				t.Run(name+" "+p.name, func(t *testing.T) {
					v, worst, total := p.onRedis(t, server, mode, nodes, n, lasting)
					figure(t, v, fmt.Sprintf(" | latest %.1f ms, stalls up to %.1f ms", v.latest/1000, worst/1000))
					if v.fallbacks > 0 {
						t.Errorf("%d decisions of the fallback while Redis answers", v.fallbacks)
					}
					if mode == "strict" {
						// What Redis decides has its instant. Of a refusal by memory
						// only the beginning is known, and others may come in between.
						if v.over > 0.01 || v.askedFalsely > 0 {
							t.Errorf("%.2f tokens beyond the burst of 100, %d false positives of Redis", v.over, v.askedFalsely)
						}
						return
					}
					// While the machine stands still nobody hears of anything, and what
					// is promised is (1+alpha) bursts. But for the stalls the figures hold.
					if v.latest > 2000+total {
						t.Errorf("a token had been there for %.1f ms when it was refused; want at most 2 ms and the stalls of %.1f ms", v.latest/1000, total/1000)
					}
					if most := math.Min(alpha*100+1, 5+p.perSecond()*total/1e6); v.over > most {
						t.Errorf("%.2f tokens beyond the burst of 100, want at most %.2f", v.over, most)
					}
				})
			}
		}
	}
}

// onRedis drives the pattern through so many fresh gateways.
func (p pattern) onRedis(t *testing.T, server *redistest.Server, mode string, nodes, seed int, lasting time.Duration) (v verdicts, worst, total float64) {
	t.Helper()
	handlers := make([]*Handler, nodes)
	for i := range handlers {
		handlers[i] = gateway(t, server.Addr, fmt.Sprintf(`{"gateways":%d,"rate_limits":{%q:{"key":"all","rate":"100/1s","burst":100,"mode":%q}}}`, nodes, zoneName(t), mode))
		handlers[i].patience = time.Minute
	}
	stall := stalls(server.Admin())
	v = p.drive(handlers, seed, lasting)
	worst, total = stall()
	return v, worst, total
}

// perSecond is how many tokens one copy of the pattern asks for in a second, on average.
func (p pattern) perSecond() float64 {
	rng := rand.New(rand.NewPCG(3, 3))
	var span time.Duration
	var cost float64
	for i := range 6600 {
		a := p.next(rng, 1, i)
		span += a.after
		cost += a.cost
	}
	return cost / span.Seconds()
}

// drive sends as many copies of the pattern as make about 4000 requests per
// second, each with keys of its own.
func (p pattern) drive(handlers []*Handler, seed int, lasting time.Duration) verdicts {
	copies := max(int(4000/p.perSecond()), 2)
	traces := make([][]seen, copies)
	var senders sync.WaitGroup
	for c := range copies {
		senders.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(seed), uint64(c)))
			var mu sync.Mutex
			var running sync.WaitGroup
			due := time.Now()
			until := due.Add(lasting)
			for i := rng.IntN(600); due.Before(until); i++ { // somewhere in its course
				a := p.next(rng, len(handlers), i)
				due = due.Add(a.after)
				time.Sleep(time.Until(due))
				a.key += 1000 * (1000*seed + c)
				running.Go(func() {
					one := decide(handlers[a.node], a)
					mu.Lock()
					traces[c] = append(traces[c], one)
					mu.Unlock()
				})
			}
			running.Wait()
		})
	}
	senders.Wait()
	var all []seen
	for _, trace := range traces {
		all = append(all, trace...)
	}
	return oracle(gcra.Of(100, time.Second, 100), all)
}

// stalls watches how late this process is woken and how long Redis takes for a
// PING; what it returns ends that and tells the worst, and all that took over
// 2 ms together, in microseconds.
func stalls(client *redis.Client) (end func() (worst, total float64)) {
	var worst, total atomic.Int64
	var watching sync.WaitGroup
	stop := make(chan struct{})
	note := func(late time.Duration) {
		if late > 2*time.Millisecond {
			total.Add(int64(late))
		}
		for {
			w := worst.Load()
			if int64(late) <= w || worst.CompareAndSwap(w, int64(late)) {
				return
			}
		}
	}
	for _, wait := range []func(){
		func() { time.Sleep(500 * time.Microsecond) },
		func() { time.Sleep(500 * time.Microsecond) },
		func() { _ = client.Ping(context.Background()).Err() },
	} {
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				wait()
				note(time.Since(began))
			}
		})
	}
	return func() (float64, float64) {
		close(stop)
		watching.Wait()
		return float64(worst.Load()) / 1000, float64(total.Load()) / 1000
	}
}
