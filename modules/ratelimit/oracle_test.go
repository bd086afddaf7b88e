package ratelimit

import (
	"fmt"
	"math"
	"slices"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
)

// seen is one decision, as a trace keeps it.
type seen struct {
	key        int
	at, end    float64 // microseconds: asked, told
	cost       float64
	admitted   bool
	waited     bool // for Redis
	fallbacked bool
}

// verdicts is what the oracle says about a trace.
type verdicts struct {
	asked, admitted, refused, waited, fallbacks int
	// legitimate are the requests that the reference would have admitted.
	legitimate int
	// falsely counts refusals although the token had been there for more than
	// 0 and more than 2 ms.
	falsely, falselyLate int
	// askedFalsely are those of the first kind that Redis itself refused.
	askedFalsely int
	// latest is for how long the token had been there at worst, in microseconds.
	latest float64
	// over is how many tokens more than the burst were out at worst.
	over float64
}

// oracle judges a trace by one exact bucket for each key, charged with what was
// really admitted. A reference with a history of its own would differ for ever
// after the first difference.
func oracle(l gcra.Limit, trace []seen) (v verdicts) {
	slices.SortStableFunc(trace, func(a, b seen) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		case a.admitted == b.admitted:
			return 0
		case a.admitted: // of one call, the first ones are admitted
			return -1
		}
		return 1
	})
	tats := map[int]float64{}
	for _, s := range trace {
		tat, wait := tats[s.key], 0.0
		wait = l.Wait(tat, s.at, s.cost)
		v.asked++
		if s.waited {
			v.waited++
		}
		if s.fallbacked {
			v.fallbacks++
		}
		if wait <= 0 {
			v.legitimate++
		}
		if !s.admitted {
			v.refused++
			if wait <= 0 {
				v.falsely++
				v.latest = math.Max(v.latest, -wait)
				if s.waited {
					v.askedFalsely++
				}
			}
			if wait <= -2000 {
				v.falselyLate++
			}
			continue
		}
		v.admitted++
		tats[s.key] = l.Spend(tat, s.at, s.cost)
		v.over = math.Max(v.over, -l.Left(tats[s.key], s.at))
	}
	return v
}

func (v verdicts) rate(n int) float64 {
	return 100 * float64(n) / math.Max(float64(v.legitimate), 1)
}

func (v verdicts) String() string {
	return fmt.Sprintf("%d decisions, %d admitted, %.1f %% waited | false positives %.4f %%, later than 2 ms %.4f %% | over by %.2f tokens",
		v.asked, v.admitted, 100*float64(v.waited)/float64(v.asked), v.rate(v.falsely), v.rate(v.falselyLate), v.over)
}
