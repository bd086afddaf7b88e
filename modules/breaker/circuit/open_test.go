package circuit

import (
	"testing"
	"time"
)

func TestOpenRefusesUntilItsTimeIsOver(t *testing.T) {
	r := newRig(t, plain())
	r.trip()
	if d := r.RetryAfter(r.now); d != 5*time.Second {
		t.Errorf("retry after %s, want 5s", d)
	}
	r.pass(5*time.Second - 1)
	if r.Peek(r.now, &r.s) {
		t.Error("peek says yes before the time is over")
	}
	r.refused()
	r.pass(1)
	if !r.Peek(r.now, &r.s) {
		t.Error("peek says no after the time is over")
	}
	r.take()
	r.want(HalfOpen)
}

func TestOpenDoublesUpToTheLongest(t *testing.T) {
	r := newRig(t, plain())
	r.trip()
	for _, want := range []time.Duration{5, 10, 20, 40, 40} {
		d := r.RetryAfter(r.now)
		if d != want*time.Second {
			t.Errorf("open for %s, want %ds", d, want)
		}
		r.pass(d)
		r.give(r.take(), Failure)
	}
}

func TestOpenDoublesForACircuitThatSoonTripsAgain(t *testing.T) {
	r := newRig(t, plain())
	recover := func() {
		r.pass(r.RetryAfter(r.now))
		r.do(3, Success)
		r.want(Closed)
	}
	r.trip()
	recover()
	r.pass(4 * time.Second) // well for less than the 5s it was open
	r.trip()
	if d := r.RetryAfter(r.now); d != 10*time.Second {
		t.Errorf("open for %s after a relapse, want 10s", d)
	}
	recover()
	r.pass(10 * time.Second)
	r.trip()
	if d := r.RetryAfter(r.now); d != 5*time.Second {
		t.Errorf("open for %s after a good while, want 5s again", d)
	}
}

func TestOpenJitterStaysInBounds(t *testing.T) {
	s := plain()
	s.Jitter = 0.2
	different := make(map[time.Duration]bool)
	for range 100 {
		r := newRig(t, s)
		r.trip()
		d := r.RetryAfter(r.now)
		different[d] = true
		if d < 4*time.Second || d > 6*time.Second {
			t.Fatalf("open for %s, want 5s give or take a fifth", d)
		}
	}
	if len(different) < 50 {
		t.Errorf("only %d different open times in 100", len(different))
	}
}
