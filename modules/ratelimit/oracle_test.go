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

// event is a decision, or the end of a request that was refused here: a process
// that is put aside decides some time after the request has read the clock.
type event struct {
	at  float64
	of  *seen
	end *event // what ends; nil of a decision
	// early is for how long the token had been there; at most zero once the
	// reference would have refused as well.
	early float64
}

// events lists what the oracle goes through, in its order.
func events(trace []seen) []*event {
	list := make([]*event, 0, len(trace))
	for i := range trace {
		e := &event{at: trace[i].at, of: &trace[i]}
		list = append(list, e)
		if !e.of.admitted && !e.of.waited {
			list = append(list, &event{at: math.Max(e.at, e.of.end), of: e.of, end: e})
		}
	}
	slices.SortStableFunc(list, func(a, b *event) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		case a.of.admitted == b.of.admitted:
			return 0
		case a.of.admitted: // of one call, the first ones are admitted
			return -1
		}
		return 1
	})
	return list
}

// oracle judges a trace by one exact bucket for each key, charged with what was
// really admitted. A reference with a history of its own would differ for ever
// after the first difference. A refusal is false if the token was there when
// Redis decided; where this process did, if it was there all the time from the
// request's beginning to its end.
func oracle(l gcra.Limit, trace []seen) (v verdicts) {
	tats, open := map[int]float64{}, map[int][]*event{}
	for _, e := range events(trace) {
		s := e.of
		if e.end != nil {
			open[s.key] = slices.DeleteFunc(open[s.key], func(o *event) bool { return o == e.end })
			if e.end.early >= 0 {
				v.refusedFalsely(s, e.end.early)
			}
			continue
		}
		v.asked++
		if s.waited {
			v.waited++
		}
		if s.fallbacked {
			v.fallbacks++
		}
		e.early = -l.Wait(tats[s.key], e.at, s.cost)
		if e.early >= 0 {
			v.legitimate++
		}
		switch {
		case s.admitted:
			v.admitted++
			tats[s.key] = l.Spend(tats[s.key], s.at, s.cost)
			v.over = math.Max(v.over, -l.Left(tats[s.key], s.at))
			for _, o := range open[s.key] {
				o.early = math.Min(o.early, -l.Wait(tats[s.key], e.at, o.of.cost))
			}
			continue
		case !s.waited:
			open[s.key] = append(open[s.key], e)
		case e.early >= 0:
			v.refusedFalsely(s, e.early)
		}
		v.refused++
	}
	return v
}

// refusedFalsely counts a refusal of s, for which the token had been there for so long.
func (v *verdicts) refusedFalsely(s *seen, early float64) {
	v.falsely++
	v.latest = math.Max(v.latest, early)
	if s.waited {
		v.askedFalsely++
	}
	if early >= 2000 {
		v.falselyLate++
	}
}

func (v verdicts) rate(n int) float64 {
	return 100 * float64(n) / math.Max(float64(v.legitimate), 1)
}

func (v verdicts) String() string {
	return fmt.Sprintf("%d decisions, %d admitted, %.1f %% waited | false positives %.4f %%, later than 2 ms %.4f %% | over by %.2f tokens",
		v.asked, v.admitted, 100*float64(v.waited)/float64(v.asked), v.rate(v.falsely), v.rate(v.falselyLate), v.over)
}
