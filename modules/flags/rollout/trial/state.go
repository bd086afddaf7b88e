package trial

import (
	"slices"
	"time"
)

// Phase is where a rollout stands.
type Phase string

// The phases.
const (
	// Running: shares grow as long as the canary is healthy.
	Running Phase = "running"
	// Paused: the share stays; the guards still look.
	Paused Phase = "paused"
	// Done: everybody gets the canary.
	Done Phase = "done"
	// Aborted: nobody does.
	Aborted Phase = "aborted"
)

// State is all that is known of a rollout. It is shared as JSON.
type State struct {
	// Seq grows with every change of anything, so that of two states the newer
	// one is known.
	Seq int64 `json:"seq"`
	// Revision grows whenever the share changes. What was counted under another
	// one is not taken into account.
	Revision int64 `json:"revision"`
	// Fence is the token of the lease under which the state was written.
	Fence int64 `json:"fence,omitempty"`

	Phase Phase `json:"phase"`
	// Step is the index of the step; -1 before the first.
	Step int `json:"step"`
	// Share of the callers who get the canary.
	Share float64 `json:"share"`
	// Began is when the rollout began, Entered when the step did.
	Began   time.Time `json:"began"`
	Entered time.Time `json:"entered"`
	// Looked is when somebody decided last.
	Looked time.Time `json:"looked"`
	// Healthy is how long the step has been healthy, in nanoseconds.
	Healthy time.Duration `json:"healthy"`
	// Stable and Canary sum up what was seen in this step, Seen the canary's
	// requests since the rollout began.
	Stable Sums  `json:"stable"`
	Canary Sums  `json:"canary"`
	Seen   int64 `json:"seen"`
	// Looks is how many windows this step has had, Gathered and Pending those
	// of them that are not looked at yet, and Block how many are looked at as one.
	Looks    int64  `json:"looks"`
	Gathered int64  `json:"gathered,omitempty"`
	Block    int64  `json:"block,omitempty"`
	Pending  Window `json:"pending,omitzero"`
	// Waiting is why a running rollout does not go on: `time`, `min_requests`
	// or the name of a guard.
	Waiting string `json:"waiting,omitempty"`

	Errors  Evidence `json:"errors,omitzero"`
	Latency Evidence `json:"latency,omitzero"`
	Trips   Evidence `json:"trips,omitzero"`
	Profile profile  `json:"profile,omitzero"`

	// History holds the last changes, the newest last.
	History []Change `json:"history,omitempty"`
}

// Ended says that only an order moves it again.
func (s *State) Ended() bool { return s.Phase == Done || s.Phase == Aborted }

// Sums is what a variant did.
type Sums struct {
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
	Slow     int64 `json:"slow"`
	Tripped  int64 `json:"tripped"`
}

// Change is one step of a rollout, forward, back, or to a halt.
type Change struct {
	At time.Time `json:"at"`
	// What is `started`, `promoted`, `completed`, `rolled_back`, `aborted`,
	// `paused` or `resumed`.
	What string `json:"what"`
	// From and To are the canary's share before and after.
	From float64 `json:"from"`
	To   float64 `json:"to"`
	// Reason is the guard that took the canary back, or an operator's words.
	Reason string `json:"reason,omitempty"`
	// By is the actor of an order; empty for what the rollout did by itself.
	By string `json:"by,omitempty"`
	// Stable and Canary are what was seen in the step that ended.
	Stable Sums `json:"stable"`
	Canary Sums `json:"canary"`
	// Told says that it has been made known.
	Told bool `json:"told,omitempty"`
	// Order is the mark of the admin call that ordered it.
	Order string `json:"-"`
}

const longestHistory = 20

// Begin is the state of a rollout of which nobody has heard.
func Begin(p *Plan, now time.Time) (State, []Change) {
	s := State{Seq: 1, Phase: Running, Step: -1, Began: now, Entered: now, Looked: now}
	if p.Manual {
		s.Phase, s.Revision = Paused, 1
		return s, s.tell(nil, Change{At: now, What: "paused", Reason: "waits for an order"})
	}
	return s, s.enter(p, 0, nil, Change{At: now, What: "started"})
}

// enter goes to a step and says so with c.
func (s *State) enter(p *Plan, step int, told []Change, c Change) []Change {
	c.From, c.To = s.Share, p.Steps[step].Share
	c.Stable, c.Canary = s.Stable, s.Canary
	s.Step, s.Share = step, c.To
	s.fresh(c.At)
	s.Phase, s.Waiting = Running, "time"
	if step == len(p.Steps)-1 {
		s.Phase, s.Waiting = Done, ""
		c.What = "completed"
	}
	return s.tell(told, c)
}

// leave takes the canary from everybody.
func (s *State) leave(told []Change, c Change) []Change {
	c.From, c.To = s.Share, 0
	c.Stable, c.Canary = s.Stable, s.Canary
	s.Phase, s.Step, s.Share, s.Waiting = Aborted, -1, 0, ""
	s.fresh(c.At)
	return s.tell(told, c)
}

// fresh begins to count anew, under a new revision.
func (s *State) fresh(now time.Time) {
	s.Revision++
	s.Entered, s.Healthy = now, 0
	s.Stable, s.Canary = Sums{}, Sums{}
	s.Looks, s.Gathered, s.Block, s.Pending = 0, 0, 0, Window{}
}

func (s *State) tell(told []Change, c Change) []Change {
	s.History = append(slices.Clone(s.History), c)
	if extra := len(s.History) - longestHistory; extra > 0 {
		s.History = s.History[extra:]
	}
	return append(told, c)
}

// Told returns the changes that have not been made known, and the state in which
// they are.
func (s State) Told() (State, []Change) {
	s.History = slices.Clone(s.History)
	var untold []Change
	for i := range s.History {
		if !s.History[i].Told {
			untold = append(untold, s.History[i])
			s.History[i].Told = true
		}
	}
	return s, untold
}

// clone shares nothing with s that a change writes to.
func (s State) clone() State {
	for _, e := range []*Evidence{&s.Errors, &s.Latency, &s.Trips} {
		e.Logs = slices.Clone(e.Logs)
	}
	s.Profile.Took = slices.Clone(s.Profile.Took)
	return s
}
