package circuit

import (
	"testing"
	"time"
)

func ramp() Settings {
	s := plain()
	s.Ramp = 8 * time.Second
	return s
}

func (r *rig) ramping() {
	r.t.Helper()
	r.give(r.halfOpen(), Success)
	r.do(2, Success)
	r.want(Ramping)
}

// share sends 100 requests that succeed and returns how many were let through.
func (r *rig) share() (n int) {
	for range 100 {
		if l, ok := r.Admit(r.now, &r.s); ok {
			n++
			r.give(l, Success)
		}
	}
	return n
}

func TestRampingComesBackByQuarters(t *testing.T) {
	r := newRig(t, ramp())
	r.ramping()
	for _, want := range []int{25, 50, 75} {
		if got := r.share(); got < want-1 || got > want+1 {
			t.Errorf("let %d of 100 through, want %d", got, want)
		}
		r.pass(2 * time.Second)
		for state := r.State(); r.State() == state && r.View(r.now).Share == float64(want)/100; {
			if l, ok := r.Admit(r.now, &r.s); ok {
				r.give(l, Success)
			}
		}
	}
	r.want(Closed)
}

func TestRampingWaitsForResults(t *testing.T) {
	r := newRig(t, ramp())
	r.ramping()
	r.pass(time.Hour) // nobody asked: nothing is known
	if s := r.View(r.now).Share; s != 0.25 {
		t.Errorf("share is %g after an idle hour, want still a quarter", s)
	}
}

// TestRampingIsOverInTime has a steady caller find a healthy upstream again.
func TestRampingIsOverInTime(t *testing.T) {
	r := newRig(t, ramp())
	r.trip()
	tripped, full := r.now, time.Duration(0)
	for full == 0 {
		r.pass(10 * time.Millisecond)
		if l, ok := r.Admit(r.now, &r.s); ok {
			r.give(l, Success)
		}
		if r.State() == Closed {
			full = r.now.Sub(tripped)
		}
	}
	if most := r.s.Open + r.s.Ramp; full > most {
		t.Errorf("full traffic after %s, want within open time and ramp, %s", full, most)
	}
}

func TestRampingRelapse(t *testing.T) {
	r := newRig(t, ramp())
	r.ramping()
	r.trip()
	if d := r.RetryAfter(r.now); d != 10*time.Second {
		t.Errorf("open for %s after a relapse, want 10s", d)
	}
}
