package ratelimit

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// try is one request that waits for Redis.
type try struct {
	cost float64
	// state decides who has the last word: the answer or the request that
	// stops waiting.
	state atomic.Int32
	done  chan struct{}

	// Set before done is signalled.
	admitted bool
	wait     float64
	err      error
}

const (
	waiting  int32 = iota
	settled        // the answer came in time
	admitted       // the request went on, admitted without the answer
	refused        // the request went away
)

var tries = sync.Pool{New: func() any { return &try{done: make(chan struct{}, 1)} }}

func newTry(cost float64) *try {
	t := tries.Get().(*try)
	t.cost, t.admitted, t.wait, t.err = cost, false, 0, nil
	t.state.Store(waiting)
	return t
}

// settle tells the request, or returns the tokens to charge (or, negative, to
// refund) so that what it did without the answer comes out right.
func (t *try) settle(yes bool, wait float64, err error) (charge float64) {
	if t.state.Load() == waiting {
		t.admitted, t.wait, t.err = yes, wait, err
		if t.state.CompareAndSwap(waiting, settled) {
			t.done <- struct{}{}
			return 0
		}
	}
	switch {
	case errors.Is(err, ledger.ErrAmbiguous):
		// Nobody knows; to charge it again might be once too often.
	case yes && t.state.Load() == refused:
		charge = -t.cost
	case !yes && t.state.Load() == admitted:
		charge = t.cost
	}
	tries.Put(t)
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
			tries.Put(t)
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
