package circuit

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// model is the same machine, written to be read: one goroutine, plain slices,
// every result kept with its time.
type model struct {
	s                Settings
	state            State
	gen              int
	since, until     time.Time
	results          []modelResult
	run              int
	probes           map[int]time.Time // deadline by lease
	won              int
	level            int
	lastOpen         time.Duration
	step, asked, got int
	stepSince        time.Time
}

type modelResult struct {
	at time.Time
	r  Result
}

func (m *model) enter(s State, now time.Time) {
	m.state, m.since, m.gen = s, now, m.gen+1
	m.results, m.run, m.probes, m.won = nil, 0, make(map[int]time.Time), 0
	m.step, m.asked, m.got, m.stepSince = 1, 0, 0, now
}

func (m *model) open(now time.Time, relapse bool) {
	m.level++
	if !relapse && (m.lastOpen == 0 || now.Sub(m.since) >= m.lastOpen) {
		m.level = 0
	}
	m.lastOpen = min(m.s.Open<<m.level, m.s.OpenMax)
	m.enter(Open, now)
	m.until = now.Add(m.lastOpen)
}

// wake lets time do its work; the circuit does this when somebody asks.
func (m *model) wake(now time.Time) {
	if m.state == Open && !now.Before(m.until) {
		m.enter(HalfOpen, now)
	}
	if m.state == HalfOpen {
		for _, deadline := range m.probes {
			if !now.Before(deadline) {
				m.open(now, true)
				return
			}
		}
		if now.Sub(m.since) >= m.s.HalfOpenMax {
			m.open(now, true)
		}
	}
}

func (m *model) admit(id int, now time.Time) bool {
	m.wake(now)
	switch m.state {
	case Open:
		return false
	case HalfOpen:
		if len(m.probes) >= min(m.s.Probes, m.s.Successes-m.won) {
			return false
		}
		m.probes[id] = now.Add(m.s.ProbeTimeout)
	case Ramping:
		m.asked++
		return m.asked == 1 || m.asked*m.step/steps != (m.asked-1)*m.step/steps
	}
	return true
}

func (m *model) end(id int, r Result, now time.Time) {
	switch m.state {
	case HalfOpen:
		gen := m.gen
		m.wake(now)
		if m.gen != gen {
			return
		}
		delete(m.probes, id)
		switch {
		case r.Outcome == Failure || r.Slow && r.Outcome == Success && m.s.SlowRatio > 0:
			m.open(now, true)
		case r.Outcome == Success:
			if m.won++; m.won >= m.s.Successes {
				if m.s.Ramp > 0 {
					m.enter(Ramping, now)
				} else {
					m.enter(Closed, now)
				}
			}
		}
	case Closed, Ramping:
		m.count(r, now)
	}
}

func (m *model) count(r Result, now time.Time) {
	if r.Outcome == Ignored {
		return
	}
	m.results = append(m.results, modelResult{now, r})
	if r.Outcome == Success && (m.state == Closed || !r.Slow) {
		m.run = 0
	}
	if !r.bad() {
		m.got++
		if m.state == Ramping && m.got >= m.s.Successes && now.Sub(m.stepSince) >= m.s.Ramp/steps {
			m.step, m.got, m.stepSince = m.step+1, 0, now
			if m.step == steps {
				m.enter(Closed, now)
			}
		}
		return
	}
	if r.Outcome == Failure || m.state == Ramping {
		m.run++
	}
	if m.trips(now) {
		m.open(now, false)
	}
}

// inWindow is the number of the span that t is in.
func (m *model) turn(t, epoch time.Time) int64 { return int64(t.Sub(epoch) / (m.s.Window / spans)) }

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where synctest begins

func (m *model) trips(now time.Time) bool {
	var total, failed, slow, local int
	seen, failing, slowing := map[uint8]bool{}, map[uint8]bool{}, map[uint8]bool{}
	for _, x := range m.results {
		if m.turn(now, epoch)-m.turn(x.at, epoch) >= spans {
			continue
		}
		total++
		seen[x.r.Client] = true
		if x.r.Outcome == Failure {
			failed++
			failing[x.r.Client] = true
			if x.r.Local {
				local++
			}
		}
		if x.r.Slow {
			slow++
			slowing[x.r.Client] = true
		}
	}
	need, run, enough := min(m.s.MinClients, len(seen)), m.run, m.s.MinRequests
	if m.state == Ramping {
		enough = min(enough, rampMinRequests)
	}
	if len(failing) < need {
		failed, run = local, min(run, local)
	}
	if len(slowing) < need {
		slow = 0
	}
	if m.s.Consecutive > 0 && run >= m.s.Consecutive {
		return true
	}
	share := func(n int, ratio float64) bool { return ratio > 0 && n > 0 && float64(n) >= ratio*float64(total) }
	return total >= enough && (share(failed, m.s.FailureRatio) || share(slow, m.s.SlowRatio))
}

// TestModel drives the circuit and the model through random operations; they
// must admit the same requests and be in the same state after each.
func TestModel(t *testing.T) {
	visits := make(map[State]int)
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { walk(t, rand.New(rand.NewPCG(seed, 1)), visits) })
		})
	}
	for _, s := range []State{Closed, Open, HalfOpen, Ramping} {
		if visits[s] < 1000 {
			t.Errorf("the walks were in %s for %d steps only", s, visits[s])
		}
	}
}

func walk(t *testing.T, rnd *rand.Rand, visits map[State]int) {
	s := plain()
	s.MinRequests, s.MinClients = 1+rnd.IntN(8), 1+rnd.IntN(3)
	s.Consecutive, s.SlowRatio = rnd.IntN(2)*5, float64(rnd.IntN(2))*0.7
	s.Probes, s.Successes = 1+rnd.IntN(3), 1+rnd.IntN(4)
	s.Ramp = time.Duration(rnd.IntN(2)) * 4 * time.Second
	failing := rnd.Float64()

	c := New(time.Now(), nil)
	m := &model{s: s}
	m.enter(Closed, time.Now())
	out, gens := map[int]*Lease{}, map[int]int{}
	var log strings.Builder
	for id := range 400 {
		now := time.Now()
		switch op := rnd.IntN(10); {
		case op < 5:
			l, got := c.Admit(now, &s)
			want := m.admit(id, now)
			fmt.Fprintf(&log, "%s admit %d: %t\n", now.Sub(epoch), id, got)
			if got != want {
				t.Fatalf("admit %d: got %t, want %t in %s\n%s", id, got, want, m.state, log.String())
			}
			if got {
				out[id], gens[id] = &l, m.gen
			}
		case op < 9:
			for lease, l := range out {
				r := Result{Client: uint8(rnd.IntN(4)), Slow: rnd.IntN(6) == 0}
				if rnd.Float64() < failing {
					r.Outcome, r.Local = Failure, rnd.IntN(4) == 0
				} else if rnd.IntN(8) == 0 {
					r.Outcome = Ignored
				}
				fmt.Fprintf(&log, "%s end %d: %+v\n", now.Sub(epoch), lease, r)
				c.End(l, now, r, &s)
				if gens[lease] == m.gen {
					m.end(lease, r, now)
				}
				delete(out, lease)
				break
			}
		default:
			time.Sleep(time.Duration(rnd.Int64N(int64(4 * time.Second))))
		}
		if got := c.State(); got != m.state {
			t.Fatalf("state is %s, want %s\n%s", got, m.state, log.String())
		}
		visits[m.state]++
		if v := c.View(now); v.State == HalfOpen && v.Probes > s.Probes {
			t.Fatalf("%d probes out, want at most %d", v.Probes, s.Probes)
		}
	}
}
