package circuit

import (
	"testing"
	"time"
)

func TestForced(t *testing.T) {
	for _, tt := range []struct {
		to     State
		admits bool
	}{{ForcedOpen, false}, {ForcedClosed, true}, {Disabled, true}} {
		t.Run(tt.to.String(), func(t *testing.T) {
			r := newRig(t, plain())
			r.Force(r.now, tt.to, time.Minute, "maintenance")
			for range 10 {
				l, ok := r.Admit(r.now, &r.s)
				if ok != tt.admits || r.Peek(r.now, &r.s) != tt.admits {
					t.Fatalf("admits: %t, want %t", ok, tt.admits)
				}
				if ok {
					r.give(l, Failure)
				}
			}
			r.want(tt.to)
			v := r.View(r.now)
			if v.Reason != "forced" || v.Note != "maintenance" || !v.Until.Equal(r.now.Add(time.Minute)) {
				t.Errorf("the view says %q, %q until %s", v.Reason, v.Note, v.Until)
			}
			r.pass(time.Minute)
			r.take()
			r.want(Closed)
		})
	}
}

func TestResetForgets(t *testing.T) {
	r := newRig(t, plain())
	r.trip()
	r.pass(5 * time.Second)
	r.give(r.take(), Failure) // the open time doubles
	r.Reset(r.now, "fixed")
	r.want(Closed)
	if v := r.View(r.now); v.Counts.Total != 0 || v.Reason != "reset" || v.Note != "fixed" {
		t.Errorf("after a reset: %+v", v)
	}
	r.trip()
	if d := r.RetryAfter(r.now); d != 5*time.Second {
		t.Errorf("open for %s after a reset, want 5s", d)
	}
}

func TestForcedLeasesOfBeforeDoNotCount(t *testing.T) {
	r := newRig(t, plain())
	l := r.halfOpen()
	r.Force(r.now, ForcedClosed, time.Minute, "keep it")
	r.give(l, Failure)
	r.want(ForcedClosed)
}
