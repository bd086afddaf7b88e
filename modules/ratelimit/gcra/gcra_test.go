package gcra

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestBucketRunsDryAndRefills(t *testing.T) {
	l := Of(10, time.Second, 10)
	now, tat := 5e6, 0.0
	for i := range 10 {
		if wait := l.Wait(tat, now, 1); wait > 0 {
			t.Fatalf("request %d of a burst of 10 waits %v", i+1, wait)
		}
		tat = l.Spend(tat, now, 1)
	}
	if got, want := l.Wait(tat, now, 1), 100_000.0; got != want {
		t.Errorf("Wait after the burst = %v, want %v", got, want)
	}
	if got := l.Wait(tat, now+99_999, 1); got <= 0 {
		t.Errorf("Wait 1 us before the honest wait = %v, want above 0", got)
	}
	if got := l.Wait(tat, now+100_000, 1); got > 0 {
		t.Errorf("Wait at the honest wait = %v, want 0", got)
	}
	if got, want := l.Left(tat, now), 0.0; got != want {
		t.Errorf("Left = %v, want %v", got, want)
	}
	if got, want := Full(tat, now), 1e6; got != want {
		t.Errorf("Full = %v, want %v", got, want)
	}
}

func TestFitsCountsWhatTheLoopAdmits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		l := Of(1+rng.Int64N(1000), time.Duration(1+rng.Int64N(3600))*time.Second, 1+rng.Int64N(500))
		now := 1e12 + float64(rng.Int64N(1e12))
		tat := now + l.Depth*(rng.Float64()*1.4-0.2)
		cost, count := float64(1+rng.IntN(3)), int64(rng.IntN(40))
		got := l.Fits(tat, now, cost, 0, count)
		var looped int64
		for at := tat; looped < count && l.Wait(at, now, cost) <= 0; looped++ {
			at = l.Spend(at, now, cost)
		}
		// Both round; they may differ by one where a request fits to within
		// the resolution of a double.
		if d := got - looped; d < -1 || d > 1 {
			t.Fatalf("%+v tat-now=%v: Fits(cost %v, count %v) = %d, the loop admits %d", l, tat-now, cost, count, got, looped)
		}
	}
}

// With a burst as large as the rate, GCRA admits all that the sliding log
// admits, when both are charged with what was really admitted.
func TestNeverRefusesWhatTheSlidingLogAdmits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 400 {
		limit := 1 + rng.Int64N(60)
		window := time.Duration(1+rng.Int64N(120)) * time.Second
		l := Of(limit, window, limit)
		w := float64(window.Microseconds())
		now, tat := 1e9, 0.0
		var log []float64
		for range 600 {
			now += rng.ExpFloat64() * w / float64(limit) * (0.2 + 1.5*rng.Float64())
			if rng.IntN(40) == 0 {
				now += w * rng.Float64() * 2
			}
			for len(log) > 0 && log[0] <= now-w {
				log = log[1:]
			}
			admitted := l.Wait(tat, now, 1) <= 0
			// A double has 1/64 us to spare at these instants.
			if !admitted && int64(len(log)) < limit && l.Wait(tat, now, 1) > 0.1 {
				t.Fatalf("round %d: refused with %d of %d in the window", round, len(log), limit)
			}
			if admitted {
				tat = l.Spend(tat, now, 1)
				log = append(log, now)
			}
		}
	}
}

func TestAdmitsAtMostBurstAndRate(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	l := Of(100, time.Second, 30)
	now, tat := 1e9, 0.0
	start := now
	admitted := 0.0
	for range 100_000 {
		now += rng.ExpFloat64() * 2000
		if cost := float64(1 + rng.IntN(4)); l.Wait(tat, now, cost) <= 0 {
			tat = l.Spend(tat, now, cost)
			admitted += cost
		}
		if bound := 30 + (now-start)/1e4 + 1e-6; admitted > bound {
			t.Fatalf("admitted %v in %v us, bound %v", admitted, now-start, bound)
		}
	}
}

func TestDebitCountsFromItsOwnInstant(t *testing.T) {
	l := Of(10, time.Second, 10)
	now := 1e9
	late := Bucket{}.Debit(l, now, 4, 300_000)
	if got, want := late.TAT, now-300_000+400_000; got != want {
		t.Errorf("Debit of 4, 300 ms old = %v, want %v", got, want)
	}
	if got := l.Left(Bucket{}.Debit(l, now, 15, 0).TAT, now); got != -5 {
		t.Errorf("Left after an overdraft of 5 = %v, want -5", got)
	}
}
