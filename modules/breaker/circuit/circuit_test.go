package circuit

import (
	"testing"
	"time"
)

// rig drives one circuit by hand.
type rig struct {
	*Circuit
	t       *testing.T
	s       Settings
	now     time.Time
	changes []Change
}

func newRig(t *testing.T, s Settings) *rig {
	t.Helper()
	r := &rig{t: t, s: s, now: time.Unix(1_800_000_000, 0)}
	r.Circuit = New(r.now, func(c Change) { r.changes = append(r.changes, c) })
	return r
}

// plain are settings without chance in them.
func plain() Settings {
	return Settings{
		Window: 10 * time.Second, FailureRatio: 0.5, MinRequests: 4, MinClients: 1,
		Open: 5 * time.Second, OpenMax: 40 * time.Second,
		Probes: 2, Successes: 3, ProbeTimeout: 10 * time.Second, StreamOK: 5 * time.Second, HalfOpenMax: time.Minute,
	}
}

func (r *rig) pass(d time.Duration) { r.now = r.now.Add(d) }

func (r *rig) take() Lease {
	r.t.Helper()
	l, ok := r.Admit(r.now, &r.s)
	if !ok {
		r.t.Fatalf("refused while %s", r.State())
	}
	return l
}

func (r *rig) refused() {
	r.t.Helper()
	if _, ok := r.Admit(r.now, &r.s); ok {
		r.t.Fatalf("admitted while %s", r.State())
	}
}

func (r *rig) give(l Lease, o Outcome) { r.result(l, Result{Outcome: o}) }

func (r *rig) result(l Lease, res Result) { r.End(&l, r.now, res, &r.s) }

// do sends n requests that all end with o.
func (r *rig) do(n int, o Outcome) {
	r.t.Helper()
	for range n {
		r.give(r.take(), o)
	}
}

func (r *rig) want(s State) {
	r.t.Helper()
	if got := r.State(); got != s {
		r.t.Fatalf("state is %s, want %s", got, s)
	}
}

// trip opens the circuit.
func (r *rig) trip() {
	r.t.Helper()
	for r.State() == Closed || r.State() == Ramping {
		if l, ok := r.Admit(r.now, &r.s); ok {
			r.give(l, Failure)
		}
	}
	r.want(Open)
}

// halfOpen brings the circuit to where the first probe is out.
func (r *rig) halfOpen() Lease {
	r.t.Helper()
	r.trip()
	r.pass(r.RetryAfter(r.now))
	l := r.take()
	r.want(HalfOpen)
	return l
}

func TestEveryTransitionIsTold(t *testing.T) {
	r := newRig(t, plain())
	first := r.halfOpen()
	r.give(first, Success)
	r.do(2, Success)
	r.want(Closed)
	var got []string
	for _, c := range r.changes {
		got = append(got, c.From.String()+">"+c.To.String()+" "+c.Reason)
	}
	want := []string{"closed>open failure_ratio", "open>half_open open_time_over", "half_open>closed probes_succeeded"}
	if len(got) != len(want) {
		t.Fatalf("told %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("told %q, want %q", got[i], want[i])
		}
	}
	if c := r.changes[0]; c.Counts.Total != 4 || c.Counts.Failures != 4 || !c.Until.Equal(c.At.Add(5*time.Second)) {
		t.Errorf("the trip was told as %+v", c)
	}
}

func TestLeaseEndsOnce(t *testing.T) {
	r := newRig(t, plain())
	l := r.take()
	r.End(&l, r.now, Result{Outcome: Failure}, &r.s)
	r.End(&l, r.now, Result{Outcome: Failure}, &r.s)
	if n := r.View(r.now).Counts.Total; n != 1 {
		t.Errorf("one lease counted %d times", n)
	}
}
