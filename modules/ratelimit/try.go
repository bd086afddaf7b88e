package ratelimit

import (
	"sync"
	"sync/atomic"
	"time"
)

// try is one request that waits for Redis.
type try struct {
	home *sync.Pool
	cost float64
	// state decides who has the last word: the answer or the request that
	// stops waiting.
	state atomic.Int32
	done  chan struct{}

	// Set before done is signalled.
	admitted bool
	wait     float64
	at       float64 // when Redis decided, by its clock
	err      error
}

const (
	waiting  int32 = iota
	settled        // the answer came in time
	admitted       // the request went on, admitted without the answer
	refused        // the request went away
)

// waits keeps tries and timers for the next request of a handler.
type waits struct{ tries, timers sync.Pool }

func (w *waits) try(cost float64) *try {
	t, ok := w.tries.Get().(*try)
	if !ok {
		t = &try{home: &w.tries, done: make(chan struct{}, 1)}
	}
	t.cost, t.admitted, t.wait, t.err = cost, false, 0, nil
	t.state.Store(waiting)
	return t
}

func (t *try) free() { t.home.Put(t) }

func (w *waits) timer(d time.Duration) *time.Timer {
	if t, ok := w.timers.Get().(*time.Timer); ok {
		t.Reset(d)
		return t
	}
	return time.NewTimer(d)
}

func (w *waits) stop(t *time.Timer) {
	t.Stop()
	w.timers.Put(t)
}

// settle tells the request, or returns the tokens to charge (or, negative, to
// refund) so that what it did without the answer comes out right. Where err is
// ambiguous they may have been charged, and charging them might be once too often.
func (t *try) settle(yes bool, wait float64, err error) (charge float64) {
	if t.state.Load() == waiting {
		t.admitted, t.wait, t.err = yes, wait, err
		if t.state.CompareAndSwap(waiting, settled) {
			t.done <- struct{}{}
			return 0
		}
	}
	switch {
	case yes && t.state.Load() == refused:
		charge = -t.cost
	case !yes && t.state.Load() == admitted:
		charge = t.cost
	}
	t.free()
	return charge
}

// leave stops waiting. It returns false if the answer has come after all.
func (t *try) leave(as int32) bool {
	return t.state.CompareAndSwap(waiting, as)
}

// liveTries drops the requests that went away before their try was sent.
func liveTries(list []*try) []*try {
	live := list[:0]
	for _, t := range list {
		if t.state.Load() == refused {
			t.free()
			continue
		}
		live = append(live, t)
	}
	clear(list[len(live):])
	return live
}

func dropTries(list []*try, n int) []*try {
	rest := copy(list, list[n:])
	clear(list[rest:])
	return list[:rest]
}
