// Package circuit decides whether an upstream is worth another try. A Circuit
// watches results, opens when too many are bad, lets a few probes through after
// a while and closes once they came back well.
//
//	         too many bad results
//	closed ───────────────────────▶ open ◀──────────────┐
//	  ▲                              │ open time is over │ a probe fails, is
//	  │ enough good results          ▼                   │ never heard of, or
//	ramping ◀──────────────────── half_open ─────────────┘ none is decided
//	  │       enough good probes                         ▲
//	  └──────────────────────────────────────────────────┘ too many bad results
//
//	forced_open, forced_closed, disabled: an operator's word, for a limited time;
//	closed follows.
//
// Every state is a type, and the value of that type is also the generation of
// its leases: a result that was admitted under an earlier value counts nothing.
// The package reads no clock: instants are arguments, thresholds too, so that
// one circuit serves configurations that come and go.
package circuit

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// State names what a circuit does with requests.
type State uint8

// The states of a circuit.
const (
	Closed State = iota
	Open
	HalfOpen
	Ramping
	ForcedOpen
	ForcedClosed
	Disabled
)

var stateNames = [...]string{"closed", "open", "half_open", "ramping", "forced_open", "forced_closed", "disabled"}

func (s State) String() string { return stateNames[s] }

// States lists every state, for those who keep a number for each.
func States() []State {
	return []State{Closed, Open, HalfOpen, Ramping, ForcedOpen, ForcedClosed, Disabled}
}

// instant is the time since the circuit was made.
type instant = time.Duration

// phase is one stay in one state.
type phase interface {
	state() State
	began() instant
	// admit takes a lease, or says no. A phase whose time is over hands on.
	admit(c *Circuit, own *generation, s *Settings, now instant) (Lease, bool)
	// end counts the result of a lease that this very phase gave out.
	end(c *Circuit, own *generation, l Lease, r Result, s *Settings, now instant)
	// peek says what admit would, without taking anything.
	peek(now instant, s *Settings) bool
	// view fills in what only the phase knows.
	view(v *View, c *Circuit, now instant)
}

// generation gives a phase its identity.
type generation struct{ phase }

// Circuit watches one upstream for one policy. Its methods may be called from
// any goroutine.
type Circuit struct {
	epoch   time.Time
	notify  func(Change)
	current atomic.Pointer[generation]

	mu       sync.Mutex // guards transitions and what follows
	level    int        // how often the open time was doubled
	lastOpen time.Duration
	reason   string // why the present state was entered
	note     string // an operator's own words on it
}

// Change is one transition.
type Change struct {
	At       time.Time
	From, To State
	// Reason is one of a few words; Note is what an operator said, if it was one.
	Reason, Note string
	// Counts are what the state that was left had seen.
	Counts Counts
	// Until is when an open or forced state ends; zero for the others.
	Until time.Time
}

// New returns a closed circuit. Notify, unless nil, hears of every transition,
// in order, on the goroutine that caused it. It must not block and must not
// call the circuit.
func New(now time.Time, notify func(Change)) *Circuit {
	c := &Circuit{epoch: now, notify: notify, reason: "new"}
	c.current.Store(&generation{&closed{}})
	return c
}

// Lease is the right to send one request. It ends exactly once, by End.
type Lease struct {
	gen   *generation
	probe *probe
}

// Probe says whether the request decides about the upstream's return.
func (l *Lease) Probe() bool { return l.probe != nil }

// Admit asks to send a request. A refused caller has nothing to give back.
func (c *Circuit) Admit(now time.Time, s *Settings) (Lease, bool) {
	g := c.current.Load()
	return g.admit(c, g, s, now.Sub(c.epoch))
}

// End gives the lease back with the request's result. Ending a lease a second
// time, or the zero Lease, does nothing.
func (c *Circuit) End(l *Lease, now time.Time, r Result, s *Settings) {
	was := *l
	*l = Lease{}
	if was.gen == nil || was.gen != c.current.Load() {
		return // a late result of an earlier state says nothing about this one
	}
	was.gen.end(c, was.gen, was, r, s, now.Sub(c.epoch))
}

// Answered notes that the upstream has begun to answer. A probe whose answer
// goes on for longer than StreamOK counts as good from then on, so that a long
// stream never holds it.
func (c *Circuit) Answered(l *Lease, now time.Time) {
	if l.probe == nil {
		return
	}
	if h, ok := l.gen.phase.(*halfOpen); ok {
		h.answer(l.probe, now.Sub(c.epoch))
	}
}

// Peek says whether Admit would give a lease, without taking one.
func (c *Circuit) Peek(now time.Time, s *Settings) bool {
	return c.current.Load().peek(now.Sub(c.epoch), s)
}

// Calm says that the circuit lets everything through. It is the cheap question
// asked for every request before any other.
func (c *Circuit) Calm() bool {
	_, ok := c.current.Load().phase.(*closed)
	return ok
}

// State returns the present state.
func (c *Circuit) State() State { return c.current.Load().state() }

// Force holds the circuit in ForcedOpen, ForcedClosed or Disabled for ttl.
func (c *Circuit) Force(now time.Time, to State, ttl time.Duration, note string) {
	c.override(now, "forced", note, func(t instant) phase {
		return &forced{kind: to, since: t, until: t + ttl}
	})
}

// Reset closes the circuit and forgets what it has seen.
func (c *Circuit) Reset(now time.Time, note string) {
	c.override(now, "reset", note, func(t instant) phase {
		c.level, c.lastOpen = 0, 0
		return &closed{since: t}
	})
}

func (c *Circuit) override(now time.Time, reason, note string, next func(instant) phase) {
	t := now.Sub(c.epoch)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enterLocked(c.current.Load(), next(t), reason, note, t)
}

// shift leaves from for the phase that next makes. It does nothing if another
// goroutine has left from before.
func (c *Circuit) shift(from *generation, now instant, reason string, next func() phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.Load() == from {
		c.enterLocked(from, next(), reason, "", now)
	}
}

func (c *Circuit) enterLocked(from *generation, to phase, reason, note string, now instant) {
	var v View
	from.view(&v, c, now)
	c.reason, c.note = reason, note
	if o, ok := to.(*open); ok {
		o.tripped = v.Counts
	}
	c.current.Store(&generation{to})
	if c.notify == nil {
		return
	}
	change := Change{At: c.epoch.Add(now), From: from.state(), To: to.state(), Reason: reason, Note: note, Counts: v.Counts}
	var next View
	to.view(&next, c, now)
	change.Until = next.Until
	c.notify(change)
}

// openLocked makes the open phase that follows a trip. A circuit that trips
// again before it was well for as long as it was open last stays open twice as
// long.
func (c *Circuit) openLocked(now, wellSince instant, s *Settings) phase {
	if c.lastOpen == 0 || now-wellSince >= c.lastOpen {
		c.level = 0
	} else {
		c.level++
	}
	return c.stayOpenLocked(now, s)
}

func (c *Circuit) stayOpenLocked(now instant, s *Settings) phase {
	d := s.Open
	for range c.level {
		if d >= s.OpenMax {
			break
		}
		d *= 2
	}
	if s.Jitter > 0 {
		d += time.Duration(float64(d) * s.Jitter * (2*rand.Float64() - 1))
	}
	c.lastOpen = min(d, max(s.OpenMax, s.Open))
	return &open{since: now, until: now + c.lastOpen}
}
