package slidinglog

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestNeverMoreThanTheLimitInAnyWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		limit, window := 1+rng.IntN(50), float64(1000+rng.IntN(100000))
		var l Log
		var admitted []float64
		now := 1e9
		for range 1000 {
			now += rng.ExpFloat64() * window / float64(limit) * rng.Float64() * 2
			cost := 1 + rng.IntN(3)
			wait := l.Wait(limit, window, now, cost)
			var inside int
			for i := len(admitted) - 1; i >= 0 && admitted[i] > now-window; i-- {
				inside++
			}
			if want := inside+cost <= limit; want != (wait <= 0) {
				t.Fatalf("limit %d, %d in the window, cost %d: wait %v", limit, inside, cost, wait)
			}
			if wait <= 0 {
				l.Spend(now, cost)
				for range cost {
					admitted = append(admitted, now)
				}
				continue
			}
			if cost <= limit {
				if early := clone(l); early.Wait(limit, window, now+wait-1, cost) <= 0 {
					t.Fatalf("admissible 1 us before the wait of %v is over", wait)
				}
				if late := clone(l); late.Wait(limit, window, now+wait, cost) > 0 {
					t.Fatalf("not admissible after the wait of %v", wait)
				}
			}
		}
	}
}

func TestRefundUndoesSpend(t *testing.T) {
	var l Log
	l.Spend(1, 2)
	l.Spend(5, 3)
	l.Refund(3)
	if got := l.Count(6, 100); got != 2 {
		t.Errorf("Count after the refund = %d, want 2", got)
	}
}

func clone(l Log) Log {
	l.at = slices.Clone(l.at)
	return l
}
