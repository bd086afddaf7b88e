package trial

import (
	"fmt"
	"math"
	"time"
)

// longestGap is how much time two looks may be apart and still count as
// healthy: a stretch in which nobody looked was not seen to be healthy.
const longestGap = 5 * time.Second

// suspicion is the share of the threshold, in logarithms, from which on a
// canary is not promoted, though not taken back either.
const suspicion = 0.5

// Advance takes the windows into account that were closed since the last call,
// and decides. The given state stays as it was.
func Advance(s State, p *Plan, now time.Time, windows []Window) (State, []Change) {
	s = s.clone()
	s.Seq++
	gap := min(max(now.Sub(s.Looked), 0), longestGap)
	s.Looked = now
	if s.Ended() {
		return s, nil
	}
	for i := range windows {
		s.gather(p, &windows[i])
	}
	if guard, level := s.worst(p); level >= p.threshold() && s.Seen >= p.MinRequests {
		return s, s.leave(nil, Change{At: now, What: "rolled_back", Reason: guard})
	} else if s.Phase == Running && level < suspicion*p.threshold() {
		s.Healthy += gap
	}
	if s.Phase == Paused {
		return s, nil
	}
	// An edited plan may have fewer steps than the one under which this began.
	step := min(s.Step, len(p.Steps)-1)
	if s.Waiting = s.waiting(p, step); s.Waiting != "" {
		return s, nil
	}
	return s, s.enter(p, min(step+1, len(p.Steps)-1), nil, Change{At: now, What: "promoted"})
}

// longestBlock is how many windows are looked at as one, at most.
const longestBlock = 60

// gather puts a window to those that are not looked at yet. Where traffic is so
// low that most windows know only one of the variants, several are one. How many
// follows from what was seen before the first of them, never from what is in
// them: a block that ended with the request of one variant would let what just
// began befall that one first.
func (s *State) gather(p *Plan, w *Window) {
	s.Canary.Requests += w.Canary.Requests()
	s.Stable.Requests += w.Stable.Requests()
	s.Seen += w.Canary.Requests()
	if s.Gathered == 0 {
		rarer := min(s.Stable.Requests-w.Stable.Requests(), s.Canary.Requests-w.Canary.Requests())
		s.Block = min(s.Looks/(rarer+1)+1, longestBlock)
	}
	s.Looks++
	s.Gathered++
	s.Pending.Add(w)
	if s.Gathered >= s.Block {
		s.see(p, &s.Pending)
		s.Gathered, s.Pending = 0, Window{}
	}
}

// see takes one block of windows into account.
func (s *State) see(p *Plan, w *Window) {
	stable, canary := w.Stable.sums(), w.Canary.sums()
	if p.Errors >= 0 {
		s.Errors.Add(Sample{stable.Requests, stable.Failed}, Sample{canary.Requests, canary.Failed}, p.Errors)
	}
	if p.Trips >= 0 {
		s.Trips.Add(Sample{stable.Requests, stable.Tripped}, Sample{canary.Requests, canary.Tripped}, p.Trips)
	}
	if p.Latency >= 0 {
		// The line is drawn by what was seen before this window.
		if line, known := s.Profile.p95(); known {
			allowed := min(line+int(math.Ceil(perOctave*math.Log2(1+p.Latency))), buckets-1)
			stable.Slow, canary.Slow = w.Stable.above(line), w.Canary.above(allowed)
			s.Latency.Add(Sample{stable.Requests, stable.Slow}, Sample{canary.Requests, canary.Slow}, 0)
		}
		s.Profile.add(&w.Stable)
	}
	s.Stable.add(stable)
	s.Canary.add(canary)
}

func (c *Counts) sums() Sums {
	return Sums{Requests: c.Requests(), Failed: c.Failed, Tripped: c.Tripped}
}

// add adds what went wrong; requests are counted when they are gathered.
func (s *Sums) add(o Sums) {
	s.Failed += o.Failed
	s.Slow += o.Slow
	s.Tripped += o.Tripped
}

// worst is the guard with the most evidence against the canary.
func (s *State) worst(p *Plan) (guard string, level float64) {
	level = math.Inf(-1)
	for _, g := range []struct {
		name   string
		margin float64
		e      *Evidence
	}{{guardErrors, p.Errors, &s.Errors}, {guardTrips, p.Trips, &s.Trips}, {guardLatency, p.Latency, &s.Latency}} {
		if g.margin < 0 {
			continue
		}
		if l := g.e.Log(); l > level {
			guard, level = g.name, l
		}
	}
	return guard, level
}

// waiting says why the step is not to be left yet, or nothing.
func (s *State) waiting(p *Plan, step int) string {
	guard, level := s.worst(p)
	switch {
	case level >= suspicion*p.threshold():
		return guard
	case step >= 0 && s.Healthy < p.Steps[step].For:
		return "time"
	// Without the stable variant there is no comparison.
	case min(s.Canary.Requests, s.Stable.Requests) < p.MinRequests:
		return "min_requests"
	}
	return ""
}

// Suspected is how much evidence there is against the canary, from none at zero
// to enough for a rollback at one, and by which guard.
func (s *State) Suspected(p *Plan) (guard string, share float64) {
	guard, level := s.worst(p)
	return guard, min(max(level/p.threshold(), 0), 1)
}

// Order is what an operator wants.
type Order struct {
	// Action is `pause`, `resume`, `promote` or `abort`.
	Action string
	// Reason is why, By who, Call the mark of the admin call.
	Reason, By, Call string
}

// Obey carries out an order. Whoever calls it makes the changes known.
func Obey(s State, p *Plan, now time.Time, o Order) (State, []Change, error) {
	s = s.clone()
	s.Seq++
	c := Change{At: now, Reason: o.Reason, By: o.By, Order: o.Call, Told: true, From: s.Share, To: s.Share, Stable: s.Stable, Canary: s.Canary}
	switch o.Action {
	case "pause":
		if s.Phase != Running {
			return s, nil, fmt.Errorf("the rollout is %s; only a running one can be paused", s.Phase)
		}
		s.Phase, s.Waiting, c.What = Paused, "", "paused"
		return s, s.tell(nil, c), nil
	case "resume":
		return s.resume(p, c)
	case "promote":
		if s.Phase != Running && s.Phase != Paused {
			return s, nil, fmt.Errorf("the rollout is %s; only a running or paused one can be promoted", s.Phase)
		}
		c.What = "promoted"
		return s, s.enter(p, min(s.Step+1, len(p.Steps)-1), nil, c), nil
	case "abort":
		if s.Phase == Aborted {
			return s, nil, fmt.Errorf("the rollout is aborted already")
		}
		c.What = "aborted"
		return s, s.leave(nil, c), nil
	}
	return s, nil, fmt.Errorf("action takes pause, resume, promote or abort, got '%s'", o.Action)
}

// resume lets a paused rollout go on and an aborted one begin again.
func (s State) resume(p *Plan, c Change) (State, []Change, error) {
	switch {
	case s.Phase == Aborted:
		// The test begins anew with the rollout: what was proven is of a canary
		// that an operator has looked into since.
		s.Errors, s.Latency, s.Trips, s.Seen = Evidence{}, Evidence{}, Evidence{}, 0
		s.Began, c.What = c.At, "started"
		return s, s.enter(p, 0, nil, c), nil
	case s.Phase == Paused && s.Step < 0:
		c.What = "started"
		return s, s.enter(p, 0, nil, c), nil
	case s.Phase == Paused:
		s.Phase, s.Waiting, c.What = Running, "time", "resumed"
		return s, s.tell(nil, c), nil
	}
	return s, nil, fmt.Errorf("the rollout is %s; only a paused or aborted one can be resumed", s.Phase)
}
