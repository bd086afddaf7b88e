package ratelimit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/slidinglog"
)

// A harness that cannot see a fault proves nothing: these are known faults of
// other limiters, and the oracle must find each.

func TestControlDebitsWithoutAge(t *testing.T) {
	var late [2]int
	for i, deaf := range []bool{false, true} {
		s := &simulation{mode: "adaptive", nodes: 4, sim: &simRedis{rtt: 10 * time.Millisecond, deaf: deaf}}
		v := s.run(t, patterns[5], 6_000)
		late[i] = v.falselyLate
		figure(t, "deaf to ages: ", deaf, ": ", v)
	}
	if late[0] != 0 || late[1] < 100 {
		t.Errorf("false positives later than 2 ms: %d with ages, %d without; want 0 and many", late[0], late[1])
	}
}

// A debit that is held up is overtaken by those of other gateways. Where the TAT
// alone is kept, its caller pays for the time in between, until the bucket is
// full again.
func TestControlBucketsThatForgetWhenTheyWereFull(t *testing.T) {
	bursts := pattern{"bursts of 200", func(rng *rand.Rand, nodes, i int) arrival {
		wait := poisson(rng, 600)
		if i%200 == 0 {
			wait += 1500 * time.Millisecond
		}
		return arrival{wait, rng.IntN(nodes), 0, 1}
	}}
	var late [2]int
	for _, nodes := range []int{4, 10} {
		if nodes > 4 && !full() {
			break
		}
		for i, forgetful := range []bool{false, true} {
			s := &simulation{mode: "adaptive", nodes: nodes, sim: &simRedis{rtt: 600 * time.Microsecond, held: 100 * time.Millisecond, forgetful: forgetful}}
			v := s.run(t, bursts, 20_000)
			late[i] += v.falselyLate
			figure(t, fmt.Sprintf("N=%d, batches held up for up to 100 ms, forgetful: %v: %v", nodes, forgetful, v))
		}
	}
	if late[0] != 0 || late[1] < 10 {
		t.Errorf("false positives later than 2 ms: %d where the gaps are kept, %d where not; want 0 and many", late[0], late[1])
	}
}

// leaky is the bucket of a limiter that trusts its callers' clocks and starts
// anew from a clock that stepped back.
type leaky struct{ last, tokens float64 }

func (b *leaky) take(now float64) bool {
	if now < b.last {
		b.last = now
	}
	b.tokens = math.Min(b.tokens+(now-b.last)*100/1e6, 100)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func TestControlClientClocks(t *testing.T) {
	for _, skew := range []float64{0, 5000} {
		rng := rand.New(rand.NewPCG(1, 1))
		b := leaky{tokens: 100}
		var trace []seen
		now := 1e9
		for i := range 8000 {
			now += rng.ExpFloat64() * 1e6 / 400
			trace = append(trace, seen{at: now, cost: 1, admitted: b.take(now + float64(i%2)*skew)})
		}
		v := oracle(gcra.Of(100, time.Second, 100), trace)
		figure(t, "clocks ", skew/1000, " ms apart: ", v)
		if seen := v.over > 100; seen != (skew > 0) {
			t.Errorf("clocks %v ms apart: %.0f tokens over; the harness is to see that in skewed clocks and only there", skew/1000, v.over)
		}
	}
}

// twoBuckets is the sliding counter of many limiters: this window's count and a
// share of the last one's.
type twoBuckets struct{ window, last, n float64 }

func (b *twoBuckets) take(now, window, limit float64) bool {
	switch w := math.Floor(now / window); {
	case w == b.window+1:
		b.last, b.n, b.window = b.n, 0, w
	case w > b.window:
		b.last, b.n, b.window = 0, 0, w
	}
	share := 1 - math.Mod(now, window)/window
	if b.last*share+b.n+1 > limit {
		return false
	}
	b.n++
	return true
}

func TestControlTwoBucketsOnCron(t *testing.T) {
	const limit, window = 100, 60e6
	refusals := func(take func(now float64) bool) (falsely int) {
		var log slidinglog.Log
		for run := range 200 {
			for i := range 90 {
				now := 1e9 + float64(run)*61e6 + float64(i)*2e6/90
				legitimate := log.Wait(limit, window, now, 1) <= 0
				if take(now) {
					log.Spend(now, 1)
				} else if legitimate {
					falsely++
				}
			}
		}
		return falsely
	}
	var b twoBuckets
	n := refusals(func(now float64) bool { return b.take(now, window, limit) })
	figure(t, "two buckets refuse falsely ", n, " of 18000 requests inside the limit")
	if n < 1000 {
		t.Errorf("of 18000 requests of a client inside its limit two buckets refuse %d; the harness is to see thousands", n)
	}
	l, tat := gcra.Of(limit, time.Minute, limit), 0.0
	if n := refusals(func(now float64) bool {
		ok := l.Wait(tat, now, 1) <= 0
		if ok {
			tat = l.Spend(tat, now, 1)
		}
		return ok
	}); n != 0 {
		t.Errorf("of 18000 requests of a client inside its limit the bucket refuses %d", n)
	}
}
