package trial

import (
	"math"
	"testing"
)

// choose is the binomial probability of k of n at share p.
func choose(n, k int64, p float64) float64 {
	l, _ := math.Lgamma(float64(n + 1))
	a, _ := math.Lgamma(float64(k + 1))
	b, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(l - a - b + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

// TestAWindowIsAnEValue adds up, over every outcome that a window can have, what
// the test would make of it: where the canary is not worse than allowed that is
// at most one, whatever the alternative was and whatever both have in common.
func TestAWindowIsAnEValue(t *testing.T) {
	shares := []float64{0.0005, 0.01, 0.05, 0.3, 0.6, 0.97}
	for _, size := range [][2]int64{{1, 1}, {19, 1}, {1, 19}, {12, 5}} {
		for _, margin := range []float64{0, 0.01, 0.2} {
			for _, base := range []float64{0.0001, 0.02, 0.4} {
				for _, lift := range lifts {
					for _, p := range shares {
						for _, q := range append(shares, min(p+margin, 0.999)) {
							if q > p+margin {
								continue
							}
							sum := 0.0
							for x := range size[0] + 1 {
								for y := range size[1] + 1 {
									ratio := math.Exp(logRatio(Sample{size[0], x}, Sample{size[1], y}, base, base+margin+lift, margin))
									sum += choose(size[0], x, p) * choose(size[1], y, q) * ratio
								}
							}
							if sum > 1+1e-9 {
								t.Fatalf("%v requests, margin %v, alternative %v and %v more: the expectation at shares %v and %v is %v, want at most 1", size, margin, base, lift, p, q, sum)
							}
						}
					}
				}
			}
		}
	}
}

// TestTheWeightsAddUpToOne: evidence begins at one, and what no window has told
// anything against stays at one.
func TestTheWeightsAddUpToOne(t *testing.T) {
	var e Evidence
	if got := e.Log(); math.Abs(got) > 1e-12 {
		t.Errorf("evidence begins at %v in logarithms, want 0", got)
	}
	for range 5000 {
		// Nothing is learnt where the stable variant fails nearly always.
		e.weigh(Sample{0, 0}, Sample{0, 0}, 0)
	}
	if got := e.Log(); math.Abs(got) > 1e-9 {
		t.Errorf("5000 windows without a request make %v of it in logarithms, want 0", got)
	}
}

func TestWhatFailsAlwaysAccusesNobody(t *testing.T) {
	var e Evidence
	for range 200 {
		e.Add(Sample{100, 100}, Sample{10, 10}, 0.01)
	}
	if got := e.Log(); got > 0.5 {
		t.Errorf("where everything fails the evidence is %v in logarithms, want about none", got)
	}
}

// FuzzEvidence feeds what no gateway would count.
func FuzzEvidence(f *testing.F) {
	f.Add(int64(100), int64(1), int64(10), int64(10), 0.01)
	f.Add(int64(1), int64(1), int64(1<<40), int64(1), 0.0)
	f.Fuzz(func(t *testing.T, n, x, m, y int64, margin float64) {
		if n < 0 || m < 0 || x < 0 || y < 0 || x > n || y > m || n > 1<<50 || m > 1<<50 || !(margin >= 0 && margin <= 1) {
			t.Skip("not counts, or not a margin")
		}
		var e Evidence
		for range 3 {
			e.Add(Sample{n, x}, Sample{m, y}, margin)
			if l := e.Log(); math.IsNaN(l) || math.IsInf(l, 1) {
				t.Fatalf("%d/%d and %d/%d with margin %v: the evidence is %v", x, n, y, m, margin, l)
			}
		}
	})
}
