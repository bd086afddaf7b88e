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

func TestRampingRelapse(t *testing.T) {
	r := newRig(t, ramp())
	r.ramping()
	r.trip()
	if d := r.RetryAfter(r.now); d != 10*time.Second {
		t.Errorf("open for %s after a relapse, want 10s", d)
	}
}
