package trial

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// traffic is a simulated service, second by second.
type traffic struct {
	rps float64
	// errors is each variant's share of failures, trips of open circuits, and
	// slower the factor on the canary's latency, at a second.
	errors func(second int, canary bool) float64
	trips  func(second int, canary bool) float64
	slower func(second int, canary bool) float64
}

func always(share float64) func(int, bool) float64 {
	return func(int, bool) float64 { return share }
}

// window draws one second of traffic.
func (tr *traffic) window(rng *rand.Rand, second int, share float64) (w Window) {
	n := poisson(rng, tr.rps)
	for range n {
		canary := rng.Float64() < share
		c := &w.Stable
		if canary {
			c = &w.Canary
		}
		if rng.Float64() < tr.errors(second, canary) {
			c.Failed++
		}
		if tr.trips != nil && rng.Float64() < tr.trips(second, canary) {
			c.Tripped++
		}
		took := 20e6 * math.Exp(0.6*rng.NormFloat64())
		if tr.slower != nil {
			took *= tr.slower(second, canary)
		}
		c.Took[bucketOf(time.Duration(took))]++
	}
	return w
}

func poisson(rng *rand.Rand, mean float64) (n int) {
	if mean > 50 {
		return max(int(math.Round(mean+math.Sqrt(mean)*rng.NormFloat64())), 0)
	}
	for sum := rng.ExpFloat64(); sum < mean; sum += rng.ExpFloat64() {
		n++
	}
	return n
}

// run simulates a rollout and returns how it ended, and after how many seconds.
func run(p *Plan, tr *traffic, seed uint64, most int) (s State, second int) {
	rng := rand.New(rand.NewPCG(seed, 11))
	now := time.Unix(1_800_000_000, 0)
	s, _ = Begin(p, now)
	for second = range most {
		now = now.Add(time.Second)
		w := tr.window(rng, second, s.Share)
		var windows []Window
		if !w.Empty() {
			windows = append(windows, w)
		}
		if s, _ = Advance(s, p, now, windows); s.Phase != Running {
			break
		}
	}
	return s, second
}

func plan() *Plan {
	return &Plan{
		Steps:       []Step{{0.05, 3 * time.Minute}, {0.25, 3 * time.Minute}, {1, 0}},
		MinRequests: 100, Errors: 0.01, Latency: 0.2, Trips: 0.01,
	}
}

// falseAborts is how many of n simulated rollouts are taken back.
func falseAborts(n int, p *Plan, tr *traffic) (aborted int) {
	for seed := range n {
		if s, _ := run(p, tr, uint64(seed), 900); s.Phase == Aborted {
			aborted++
		}
	}
	return aborted
}

// TestHealthyRolloutsAreNotTakenBack is the promise of less than 1 %, with
// margins as they come and with none, where the variants are just equal.
func TestHealthyRolloutsAreNotTakenBack(t *testing.T) {
	bare := plan()
	bare.Errors, bare.Latency, bare.Trips = 0, 0, 0
	bursts := func(s int, _ bool) float64 {
		// Bursts of a few seconds in which every request is in danger, whichever
		// variant it goes to; they come at their own times.
		if s%37 < s%5 {
			return 0.5
		}
		return 0.005
	}
	for _, c := range []struct {
		name string
		plan *Plan
		tr   traffic
	}{
		{"usual margins", plan(), traffic{rps: 60, errors: always(0.01)}},
		{"no margins", bare, traffic{rps: 60, errors: always(0.02), trips: always(0.01)}},
		{"bursts that hit both", bare, traffic{rps: 60, errors: bursts, trips: bursts, slower: func(s int, b bool) float64 { return 1 + 20*bursts(s, b) }}},
		{"little traffic", bare, traffic{rps: 2, errors: bursts}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			aborted := falseAborts(rollouts, c.plan, &c.tr)
			t.Logf("%d of %d healthy rollouts were taken back", aborted, rollouts)
			if aborted*100 >= rollouts {
				t.Errorf("%d of %d healthy rollouts were taken back; want less than 1 %%", aborted, rollouts)
			}
		})
	}
}

// TestTheHarnessCatchesPeeking: the same harness finds out a test that is made
// for one look and is looked at every second.
func TestTheHarnessCatchesPeeking(t *testing.T) {
	const rollouts = 200
	tr := traffic{rps: 60, errors: always(0.02)}
	fired := 0
	for seed := range rollouts {
		rng := rand.New(rand.NewPCG(uint64(seed), 11))
		var n, m, x, y float64
		for second := range 360 {
			w := tr.window(rng, second, 0.25)
			n, x = n+float64(w.Stable.Requests()), x+float64(w.Stable.Failed)
			m, y = m+float64(w.Canary.Requests()), y+float64(w.Canary.Failed)
			pooled := (x + y) / (n + m)
			z := (y/m - x/n) / math.Sqrt(pooled*(1-pooled)*(1/n+1/m))
			if m >= 100 && z > 2.326 { // one-sided, 1 %
				fired++
				break
			}
		}
	}
	t.Logf("a z-test at 1 %% that is looked at every second fired in %d of %d healthy rollouts", fired, rollouts)
	if fired*100 < rollouts {
		t.Errorf("the peeked z-test fired in %d of %d healthy rollouts: this harness could not tell a bad test from a good one", fired, rollouts)
	}
}

// TestFaultsAreTakenBack measures from the moment at which both the fault is
// there and the canary has the requests it needs.
func TestFaultsAreTakenBack(t *testing.T) {
	from := func(second int, canary, stable float64) func(int, bool) float64 {
		return func(s int, isCanary bool) float64 {
			if isCanary && s >= second {
				return canary
			}
			return stable
		}
	}
	for _, c := range []struct {
		name   string
		tr     traffic
		began  int // when fault and sample are there
		guard  string
		within int
	}{
		{"a tenth fails from the beginning", traffic{rps: 200, errors: from(0, 0.1, 0.001)}, 10, guardErrors, 30},
		{"a tenth fails after two minutes", traffic{rps: 200, errors: from(120, 0.1, 0.001)}, 120, guardErrors, 30},
		{"a tenth fails in the second step", traffic{rps: 200, errors: from(300, 0.1, 0.005)}, 300, guardErrors, 30},
		{"all fail", traffic{rps: 200, errors: from(60, 1, 0.001)}, 60, guardErrors, 5},
		{"twice as slow", traffic{rps: 200, errors: always(0.001), slower: from(60, 2, 1)}, 60, guardLatency, 45},
		{"circuits open", traffic{rps: 200, errors: always(0.001), trips: from(60, 0.5, 0)}, 60, guardTrips, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			late, longest := 0, 0
			const rollouts = 100
			for seed := range rollouts {
				s, second := run(plan(), &c.tr, uint64(seed), 900)
				why := ""
				if len(s.History) > 0 {
					why = s.History[len(s.History)-1].Reason
				}
				if s.Phase != Aborted || why != c.guard || s.Share != 0 {
					t.Fatalf("seed %d: after %d s the rollout is %s at %v for %q, want aborted for %s", seed, second, s.Phase, s.Share, why, c.guard)
				}
				longest = max(longest, second-c.began)
				if second-c.began > c.within {
					late++
				}
			}
			t.Logf("taken back within %d s", longest)
			if late > 0 {
				t.Errorf("%d of %d took longer than %d s, the longest %d s", late, rollouts, c.within, longest)
			}
		})
	}
}
