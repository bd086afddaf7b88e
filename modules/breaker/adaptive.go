package breaker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// adaptive finds how many requests an upstream bears. Once a round it compares
// the round's mean latency with the usual one:
//
//	limit ← limit · min(1, 2·usual/mean), and a little more where that is 1 and
//	the limit was in use; a tenth less where answers timed out
//
// The usual latency follows a better one at once and a worse one slowly, so that
// a limit never stays low because the upstream once was quicker.
type adaptive struct {
	current atomic.Int64 // zero before the first round

	mu       sync.Mutex // guards the round and what was learnt
	began    time.Time
	sum      time.Duration
	n        int
	timeouts int
	busiest  int64
	usual    time.Duration
	exact    float64
}

// The bounds of a round: as soon as it has enough answers and time.
const (
	roundMin     = 10
	roundTime    = time.Second
	startLimit   = 50
	tolerance    = 2.0
	steepestFall = 0.5
	drift        = 0.02 // how much of a worse latency becomes usual in a round
)

func (a *adaptive) limit(least, most int) int64 {
	n := a.current.Load()
	if n == 0 {
		n = startLimit
	}
	return min(max(n, int64(least)), int64(most))
}

// learn counts one answer. Requests that the client gave up are not told.
func (a *adaptive) learn(c *Concurrency, latency time.Duration, timedOut bool, inside int64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began.IsZero() {
		a.began = now
	}
	a.n++
	a.sum += latency
	a.busiest = max(a.busiest, inside)
	if timedOut {
		a.timeouts++
	}
	if a.n >= roundMin && now.Sub(a.began) >= roundTime {
		a.turnLocked(c)
		a.began, a.n, a.sum, a.timeouts, a.busiest = now, 0, 0, 0, 0
	}
}

func (a *adaptive) turnLocked(c *Concurrency) {
	mean := max(a.sum/time.Duration(a.n), 1)
	if a.usual == 0 || mean < a.usual {
		a.usual = mean
	} else {
		a.usual += time.Duration(drift * float64(mean-a.usual))
	}
	limit := max(a.exact, float64(a.limit(c.Least, c.Most)))
	if a.exact > 0 {
		limit = a.exact
	}
	gradient := min(1, max(steepestFall, tolerance*float64(a.usual)/float64(mean)))
	next := limit * gradient
	switch {
	case a.timeouts > 0:
		next = min(next, limit*0.9)
	case gradient == 1 && float64(a.busiest) >= limit/2:
		next += math.Sqrt(limit)
	}
	a.exact = min(max(next, float64(c.Least)), float64(c.Most))
	a.current.Store(int64(a.exact))
}
