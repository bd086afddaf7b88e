package ledger

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstProbe = 250 * time.Millisecond
	// lastProbe keeps the way back below two seconds, together with the
	// second that the client waits between dials of its own.
	lastProbe = 500 * time.Millisecond
	// slow is where a batch counts as slow.
	slow = 50 * time.Millisecond
	span = 5 * time.Second
)

// breaker knows whether a shard is worth a try, and whether it is worth a wait.
type breaker struct {
	open    atomic.Bool
	probing atomic.Bool
	browned atomic.Bool

	mu      sync.Mutex // guards what follows
	began   time.Time
	now, at tally // the span that runs, and the one before
}

type tally struct{ all, slow int }

// trip opens the breaker and says whether it was closed.
func (b *breaker) trip() bool { return b.open.CompareAndSwap(false, true) }

// took notes how long a batch took, and says whether that turned the shard
// slow or prompt. It is slow from more than one batch in twenty of the last five
// to ten seconds that took over slow, until it is no more than one in forty.
func (b *breaker) took(d time.Duration, now time.Time) (state State, turned bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch age := now.Sub(b.began); {
	case age > 2*span:
		b.began, b.at, b.now = now, tally{}, tally{}
	case age > span:
		b.began, b.at, b.now = now, b.now, tally{}
	}
	b.now.all++
	if d > slow {
		b.now.slow++
	}
	all, late := b.now.all+b.at.all, b.now.slow+b.at.slow
	switch brown := b.browned.Load(); {
	case !brown && all >= 20 && late*20 > all:
		b.browned.Store(true)
		return Slow, true
	case brown && late*40 <= all:
		b.browned.Store(false)
		return Prompt, true
	}
	return "", false
}

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
