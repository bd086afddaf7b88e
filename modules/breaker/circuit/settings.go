package circuit

import (
	"math/bits"
	"time"
)

// Settings are the thresholds of a policy. They come with every call, so that
// a new configuration applies to the circuits that already stand.
type Settings struct {
	// Window is the time whose results count. Used when Count is zero.
	Window time.Duration
	// Count, when set, makes the last Count results count instead.
	Count int

	// FailureRatio and SlowRatio open the circuit when that share of results
	// is bad. Zero switches the condition off.
	FailureRatio, SlowRatio float64
	// Consecutive opens the circuit after that many failures in a row, however
	// few results there are. Zero switches the condition off.
	Consecutive int
	// MinRequests is how many results a ratio needs to mean anything.
	MinRequests int
	// MinClients is from how many client buckets the bad results must come, of
	// those seen: one client alone cannot open the circuit for the others.
	MinClients int

	// Open is the first open time, OpenMax the longest one after doublings,
	// Jitter the share by which each is shortened or lengthened at random.
	Open, OpenMax time.Duration
	Jitter        float64

	// Probes is how many requests may be out at a time while half open,
	// Successes how many good ones close the circuit.
	Probes, Successes int
	// ProbeTimeout is when a probe that was never heard of counts as failed.
	ProbeTimeout time.Duration
	// StreamOK is how long a probe's answer may go on before it counts as good.
	StreamOK time.Duration
	// HalfOpenMax is how long the probes may stay undecided.
	HalfOpenMax time.Duration

	// Ramp is over what time requests come back in four equal steps. Zero
	// closes the circuit at once.
	Ramp time.Duration
}

// Outcome is what one request says about the upstream.
type Outcome uint8

// The outcomes. An ignored one, such as a client that hung up, says nothing.
const (
	Success Outcome = iota
	Failure
	Ignored
)

var outcomeNames = [...]string{"success", "failure", "ignored"}

func (o Outcome) String() string { return outcomeNames[o] }

// Buckets is how many buckets clients are told apart by.
const Buckets = 64

// Result is the end of one request.
type Result struct {
	Outcome Outcome
	// Slow says that the first byte was late, whatever the outcome.
	Slow bool
	// Local marks a failure to connect, which no client can cause.
	Local bool
	// Client is the bucket of who asked, below Buckets.
	Client uint8
}

// bad says whether the result can open a circuit.
func (r Result) bad() bool { return r.Outcome == Failure || r.Slow }

// Counts sum up the results of a window.
type Counts struct {
	Total, Failures, Slow, Local int

	seen, failing, slowing uint64 // one bit for each client bucket
}

// Clients returns how many client buckets were seen.
func (n Counts) Clients() int { return bits.OnesCount64(n.seen) }

func (n Counts) plus(m Counts) Counts {
	return Counts{
		n.Total + m.Total, n.Failures + m.Failures, n.Slow + m.Slow, n.Local + m.Local,
		n.seen | m.seen, n.failing | m.failing, n.slowing | m.slowing,
	}
}

// trips says whether n, which ends with that many failures in a row, opens the
// circuit, and by which condition.
func (s *Settings) trips(n Counts, consecutive, minRequests int) (reason string, tripped bool) {
	// Where fewer clients were seen than must agree, all of them must.
	need := min(s.MinClients, n.Clients())
	failures, slow := n.Failures, n.Slow
	if bits.OnesCount64(n.failing) < need {
		failures = n.Local
		consecutive = min(consecutive, n.Local)
	}
	if bits.OnesCount64(n.slowing) < need {
		slow = 0
	}
	switch {
	case s.Consecutive > 0 && consecutive >= s.Consecutive:
		return "consecutive", true
	case n.Total < minRequests:
		return "", false
	case s.FailureRatio > 0 && failures > 0 && float64(failures) >= s.FailureRatio*float64(n.Total):
		return "failure_ratio", true
	case s.SlowRatio > 0 && slow > 0 && float64(slow) >= s.SlowRatio*float64(n.Total):
		return "slow_ratio", true
	}
	return "", false
}

// geometry is what a window is made for.
type geometry struct {
	span  time.Duration
	count int
}

func (s *Settings) geometry() geometry {
	if s.Count > 0 {
		return geometry{count: s.Count}
	}
	return geometry{span: s.Window}
}
