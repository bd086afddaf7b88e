package circuit

import (
	"testing"
	"time"
)

func TestHalfOpenLetsFewProbesOut(t *testing.T) {
	r := newRig(t, plain())
	first := r.halfOpen()
	second := r.take()
	r.refused() // two are out
	if !first.Probe() || !second.Probe() {
		t.Error("a lease of a half-open circuit is no probe")
	}
	r.give(first, Success)
	third := r.take()
	r.give(second, Success)
	r.refused() // two succeeded and one is out: it may be the last that is needed
	r.give(third, Success)
	r.want(Closed)
}

func TestHalfOpenFailedProbeOpens(t *testing.T) {
	for _, tt := range []struct {
		name   string
		result Result
		slow   float64
		want   State
	}{
		{"failure", Result{Outcome: Failure}, 0, Open},
		{"slow, where that counts", Result{Slow: true}, 0.8, Open},
		{"slow, where it does not", Result{Slow: true}, 0, HalfOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := plain()
			s.SlowRatio = tt.slow
			r := newRig(t, s)
			r.result(r.halfOpen(), tt.result)
			r.want(tt.want)
		})
	}
}

func TestHalfOpenIgnoredProbeFreesItsPlace(t *testing.T) {
	r := newRig(t, plain())
	r.give(r.halfOpen(), Ignored)
	for range 100 {
		r.give(r.take(), Ignored)
	}
	r.want(HalfOpen)
	if v := r.View(r.now); v.Probes != 0 || v.Successes != 0 {
		t.Errorf("%d probes out and %d successes, want none", v.Probes, v.Successes)
	}
}

func TestHalfOpenProbeThatIsNeverHeardOfOpens(t *testing.T) {
	r := newRig(t, plain())
	lost := r.halfOpen()
	r.pass(10 * time.Second)
	if !r.Peek(r.now, &r.s) {
		t.Fatal("peek keeps away those who would notice")
	}
	r.refused()
	r.want(Open)
	if c := r.changes[len(r.changes)-1]; c.Reason != "probe_timeout" {
		t.Errorf("opened for %q", c.Reason)
	}
	r.give(lost, Success) // too late
	r.want(Open)
}

func TestHalfOpenEndsUndecided(t *testing.T) {
	s := plain()
	s.ProbeTimeout = time.Hour
	r := newRig(t, s)
	r.give(r.halfOpen(), Success)
	r.take()
	r.pass(time.Minute)
	r.refused()
	r.want(Open)
}

func TestHalfOpenStreamCountsAsGoodAfterAWhile(t *testing.T) {
	r := newRig(t, plain())
	a, b := r.halfOpen(), r.take()
	r.Answered(&a, r.now)
	r.Answered(&b, r.now)
	r.pass(5*time.Second - 1)
	r.refused()
	r.pass(1)
	c := r.take() // both streams count, their places are free
	r.give(a, Failure)
	r.want(HalfOpen) // what becomes of them later does not matter
	r.give(c, Success)
	r.want(Closed)
}

func TestHalfOpenAnsweredProbeDoesNotTimeOut(t *testing.T) {
	s := plain()
	s.StreamOK = 30 * time.Second
	r := newRig(t, s)
	l := r.halfOpen()
	r.pass(9 * time.Second)
	r.Answered(&l, r.now)
	r.pass(9 * time.Second)
	r.take()
	r.want(HalfOpen)
}

func TestHalfOpenLateResultOfTheClosedStateDoesNotVote(t *testing.T) {
	r := newRig(t, plain())
	late := []Lease{r.take(), r.take(), r.take()}
	r.halfOpen()
	for _, l := range late {
		r.give(l, Success)
	}
	r.want(HalfOpen)
	if v := r.View(r.now); v.Successes != 0 {
		t.Errorf("late results gave %d votes", v.Successes)
	}
}
