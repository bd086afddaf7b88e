package circuit

import (
	"sync"
	"sync/atomic"
	"time"
)

// window remembers recent results. Both kinds let any number of goroutines add
// at once.
type window interface {
	add(r Result, now instant)
	counts(now instant) Counts
}

func newWindow(g geometry) window {
	if g.count > 0 {
		return &countWindow{slots: make([]atomic.Uint32, g.count)}
	}
	return &timeWindow{width: max(g.span/spans, 1)}
}

// spans is into how many parts a time window is cut; it forgets one at a time.
const spans = 16

// timeWindow is a ring of spans of time:
//
//	turn      7    8    9    6     a span is emptied when a result of a later
//	       ┌────┬────┬────┬────┐   turn falls on it; counts adds up those whose
//	       │ 12 │ 31 │  4 │ 19 │   turn is still within the window
//	       └────┴────┴────┴────┘
type timeWindow struct {
	width time.Duration
	mu    sync.Mutex // guards the turn of a span to the next
	ring  [spans]span
}

// span fills a cache line, so that two spans never share one.
type span struct {
	turn                         atomic.Int64 // one more than the number of its time
	total, failures, slow, local atomic.Uint32
	seen, failing, slowing       atomic.Uint64
	_                            [8]byte
}

func (w *timeWindow) add(r Result, now instant) {
	turn := int64(now/w.width) + 1
	s := &w.ring[turn%spans]
	if s.turn.Load() < turn {
		w.empty(s, turn)
	}
	// A result that is a whole window late would be counted as new; it is one
	// of very many, and telling it apart would cost every other.
	s.total.Add(1)
	bit := uint64(1) << (r.Client % Buckets)
	mark(&s.seen, bit)
	if r.Outcome == Failure {
		s.failures.Add(1)
		mark(&s.failing, bit)
		if r.Local {
			s.local.Add(1)
		}
	}
	if r.Slow {
		s.slow.Add(1)
		mark(&s.slowing, bit)
	}
}

// mark spares the write, and with it the other core's cache line, when the bit
// is set already.
func mark(word *atomic.Uint64, bit uint64) {
	if word.Load()&bit == 0 {
		word.Or(bit)
	}
}

func (w *timeWindow) empty(s *span, turn int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.turn.Load() >= turn {
		return
	}
	s.total.Store(0)
	s.failures.Store(0)
	s.slow.Store(0)
	s.local.Store(0)
	s.seen.Store(0)
	s.failing.Store(0)
	s.slowing.Store(0)
	s.turn.Store(turn) // last: who sees the turn may add
}

func (w *timeWindow) counts(now instant) (n Counts) {
	oldest := int64(now/w.width) + 1 - spans
	for i := range w.ring {
		s := &w.ring[i]
		if s.turn.Load() <= max(oldest, 0) {
			continue
		}
		n = n.plus(Counts{
			int(s.total.Load()), int(s.failures.Load()), int(s.slow.Load()), int(s.local.Load()),
			s.seen.Load(), s.failing.Load(), s.slowing.Load(),
		})
	}
	return n
}

// countWindow is a ring of the last results, one word each. It is summed up
// when a bad result asks, which on the routes it is made for is rare.
type countWindow struct {
	next  atomic.Uint64
	slots []atomic.Uint32
}

// The bits of a slot above those of the client bucket.
const (
	slotUsed = Buckets << iota
	slotFailed
	slotSlow
	slotLocal
)

func (w *countWindow) add(r Result, _ instant) {
	word := uint32(r.Client%Buckets) | slotUsed
	if r.Outcome == Failure {
		word |= slotFailed
		if r.Local {
			word |= slotLocal
		}
	}
	if r.Slow {
		word |= slotSlow
	}
	i := (w.next.Add(1) - 1) % uint64(len(w.slots))
	w.slots[i].Store(word)
}

func (w *countWindow) counts(instant) (n Counts) {
	for i := range w.slots {
		word := w.slots[i].Load()
		if word&slotUsed == 0 {
			continue
		}
		bit := uint64(1) << (word % Buckets)
		n.Total++
		n.seen |= bit
		if word&slotFailed != 0 {
			n.Failures++
			n.failing |= bit
		}
		if word&slotLocal != 0 {
			n.Local++
		}
		if word&slotSlow != 0 {
			n.Slow++
			n.slowing |= bit
		}
	}
	return n
}
