package circuit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHammer has several goroutines send, fail, force and look at one circuit.
// It is for the race detector; what it checks is that transitions are told in
// order, and that the way back is found in the end.
func TestHammer(t *testing.T) {
	s := plain()
	s.Open, s.OpenMax, s.ProbeTimeout = time.Microsecond, time.Millisecond, time.Second
	s.Ramp = time.Microsecond
	var last State
	var changes atomic.Int64
	c := New(time.Now(), func(ch Change) {
		if ch.From != last {
			t.Errorf("told %s>%s after %s", ch.From, ch.To, last)
		}
		last = ch.To // the circuit tells in order, under its own lock
		changes.Add(1)
	})
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				now := time.Now()
				l, ok := c.Admit(now, &s)
				if !ok {
					continue
				}
				r := Result{Outcome: Outcome(i * 7 % 3), Client: uint8(worker)}
				c.End(&l, now, r, &s)
				switch i % 5000 {
				case 0:
					c.Force(now, ForcedClosed, time.Microsecond, "hammer")
				case 2500:
					c.View(now)
					c.RetryAfter(now)
				}
			}
		})
	}
	wg.Wait()
	if changes.Load() < 10 {
		t.Errorf("only %d changes", changes.Load())
	}
	deadline := time.Now().Add(10 * time.Second)
	for c.State() != Closed && time.Now().Before(deadline) {
		if l, ok := c.Admit(time.Now(), &s); ok {
			c.End(&l, time.Now(), Result{}, &s)
		}
	}
	if got := c.State(); got != Closed {
		t.Errorf("state is %s in the end", got)
	}
}
