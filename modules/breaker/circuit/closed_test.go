package circuit

import (
	"testing"
	"time"
)

func TestClosedTrips(t *testing.T) {
	type batch struct {
		n int
		r Result
	}
	fail := func(client uint8) Result { return Result{Outcome: Failure, Client: client} }
	good := func(client uint8) Result { return Result{Client: client} }
	for _, tt := range []struct {
		name   string
		change func(*Settings)
		send   []batch
		want   string // the reason, or empty for a circuit that stays closed
	}{
		{"half of enough", nil, []batch{{2, good(1)}, {2, fail(1)}}, "failure_ratio"},
		{"less than half", nil, []batch{{3, good(1)}, {2, fail(1)}}, ""},
		{"too few", nil, []batch{{3, fail(1)}}, ""},
		{"ignored ones count nothing", nil, []batch{{3, fail(1)}, {9, Result{Outcome: Ignored}}}, ""},
		{"ratio off", func(s *Settings) { s.FailureRatio = 0 }, []batch{{50, fail(1)}}, ""},
		{"in a row, before there are enough", func(s *Settings) { s.Consecutive = 3 }, []batch{{3, fail(1)}}, "consecutive"},
		{"not in a row", func(s *Settings) { s.Consecutive, s.FailureRatio = 3, 0 }, []batch{{2, fail(1)}, {1, good(1)}, {2, fail(1)}}, ""},
		{"slow", func(s *Settings) { s.SlowRatio = 0.8 }, []batch{{1, good(1)}, {4, Result{Slow: true}}}, "slow_ratio"},
		{"not slow enough", func(s *Settings) { s.SlowRatio = 0.8 }, []batch{{2, good(1)}, {7, Result{Slow: true}}}, ""},

		{"poison: one client of two", func(s *Settings) { s.MinClients = 2 }, []batch{{1, good(7)}, {500, fail(1)}}, ""},
		{"two clients of three", func(s *Settings) { s.MinClients = 2 }, []batch{{1, good(7)}, {2, fail(1)}, {2, fail(2)}}, "failure_ratio"},
		{"the only client there is", func(s *Settings) { s.MinClients = 2 }, []batch{{4, fail(1)}}, "failure_ratio"},
		{"all clients there are, though fewer", func(s *Settings) { s.MinClients = 5 }, []batch{{2, fail(1)}, {2, fail(2)}}, "failure_ratio"},
		{"one client of two cannot connect", func(s *Settings) { s.MinClients = 2 },
			[]batch{{1, good(7)}, {3, Result{Outcome: Failure, Local: true, Client: 1}}}, "failure_ratio"},
		{"poison beside one failure to connect", func(s *Settings) { s.MinClients = 2 },
			[]batch{{1, good(7)}, {1, Result{Outcome: Failure, Local: true, Client: 1}}, {200, fail(1)}}, ""},
		{"poison in a row", func(s *Settings) { s.MinClients, s.Consecutive = 2, 3 }, []batch{{1, good(7)}, {99, fail(1)}}, ""},
		{"poison by slowness", func(s *Settings) { s.MinClients, s.SlowRatio = 2, 0.5 }, []batch{{1, good(7)}, {99, Result{Slow: true, Client: 1}}}, ""},
	} {
		for _, kind := range []string{"time", "count"} {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				s := plain()
				if kind == "count" {
					s.Window, s.Count = 0, 600
				}
				if tt.change != nil {
					tt.change(&s)
				}
				r := newRig(t, s)
				for _, b := range tt.send {
					for range b.n {
						if l, ok := r.Admit(r.now, &r.s); ok {
							r.result(l, b.r)
						}
					}
				}
				var got string
				if len(r.changes) > 0 {
					got = r.changes[0].Reason
				}
				if got != tt.want {
					t.Errorf("opened for %q, want %q; counts %+v", got, tt.want, r.View(r.now).Counts)
				}
			})
		}
	}
}

func TestClosedForgetsOldResults(t *testing.T) {
	r := newRig(t, plain())
	r.do(3, Failure)
	r.pass(10 * time.Second)
	r.do(3, Failure)
	r.want(Closed)
	r.do(1, Failure)
	r.want(Open)
}

func TestClosedCountWindowForgetsTheOldestResult(t *testing.T) {
	s := plain()
	s.Window, s.Count = 0, 4
	r := newRig(t, s)
	r.do(1, Failure)
	r.pass(time.Hour)
	r.do(3, Success)
	r.do(1, Failure) // the first is forgotten
	r.want(Closed)
	if n := r.View(r.now).Counts; n.Total != 4 || n.Failures != 1 {
		t.Errorf("counts are %+v, want 4 with 1 failure", n)
	}
}

func TestClosedKeepsItsStateUnderANewWindow(t *testing.T) {
	r := newRig(t, plain())
	r.do(3, Failure)
	r.s.Window = time.Minute
	r.do(3, Failure)
	r.want(Closed)
	r.do(1, Failure)
	r.want(Open)
}

func TestClosedLateResultOfAnEarlierStayIsNotCounted(t *testing.T) {
	r := newRig(t, plain())
	late := r.take()
	r.give(r.halfOpen(), Success)
	r.do(2, Success)
	r.want(Closed)
	r.give(late, Failure)
	if n := r.View(r.now).Counts.Total; n != 0 {
		t.Errorf("a result from before the trip was counted")
	}
}
