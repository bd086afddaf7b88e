// Package gcra is the generic cell rate algorithm: a token bucket whose whole
// state is one instant, the theoretical arrival time (TAT).
//
//	now                 TAT                    now+Depth
//	 |── spent credit ──>|── credit left ────────>|
//
// The bucket is full when TAT is not in the future, and empty when TAT lies
// Depth ahead. A bucket as deep as its window never refuses what an exact
// sliding log of the same limit would admit.
//
// Instants and spans are microseconds in float64, because the script that runs
// the same arithmetic inside Redis knows no other number: core and script agree
// to the last bit. The explicit conversions forbid fused multiply-add, which
// Redis does not use.
package gcra

import (
	"math"
	"time"
)

// Limit is what one key may use.
type Limit struct {
	// Every is how long one request takes to come back, in microseconds.
	Every float64
	// Depth is how far ahead of now the TAT may run: Every times the burst.
	Depth float64
}

// Of returns the Limit of rate requests per window with the given burst.
func Of(rate int64, window time.Duration, burst int64) Limit {
	every := micros(window) / float64(rate)
	return Limit{Every: every, Depth: float64(every * float64(burst))}
}

// Wait returns how long a request of this cost must wait; it is admissible now
// where that is not above zero.
func (l Limit) Wait(tat, now, cost float64) float64 {
	return l.Spend(tat, now, cost) - l.Depth - now
}

// Spend returns the TAT after an admitted request.
func (l Limit) Spend(tat, now, cost float64) float64 {
	return math.Max(tat, now) + float64(l.Every*cost)
}

// Refund returns the TAT as if cost had not been spent.
func (l Limit) Refund(tat, cost float64) float64 {
	return tat - float64(l.Every*cost)
}

// Fits returns how many requests of this cost, up to count, are admissible now,
// each one not more than grace early.
func (l Limit) Fits(tat, now, cost, grace float64, count int64) int64 {
	room := l.Depth + grace - (math.Max(tat, now) - now)
	each := float64(l.Every * cost)
	switch {
	case room < 0:
		return 0
	case each <= 0:
		return count
	}
	return min(count, int64(math.Floor(room/each)))
}

// Left returns the credit, which is negative while the bucket is overdrawn.
func (l Limit) Left(tat, now float64) float64 {
	return (l.Depth - (math.Max(tat, now) - now)) / l.Every
}

// Full returns how long the bucket takes to fill.
func Full(tat, now float64) float64 {
	return math.Max(tat-now, 0)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
