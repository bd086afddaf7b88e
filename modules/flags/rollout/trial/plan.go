// Package trial moves a share of the callers from one variant of a route to
// another, step by step, and takes it back when the new variant does worse than
// the old one at the same time.
//
// It knows neither clocks nor networks: a State and what was seen since go in,
// the next State and what there is to tell come out. Any node can go on where
// another one stopped, since all that the test remembers is in the State.
package trial

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Step is one share and how long it must be healthy.
type Step struct {
	// Share of the callers who get the canary, above 0 and up to 1.
	Share float64 `json:"share"`
	// For is how long the share stays, in nanoseconds; zero in the last step.
	For time.Duration `json:"for,omitempty"`
}

// Plan is what an operator has in mind.
type Plan struct {
	Steps []Step
	// Manual begins at no share at all and waits for an order.
	Manual bool
	// MinRequests is how many requests of each variant a step needs before it is
	// left, and how many of the canary the rollout before it is taken back.
	MinRequests int64
	// Errors is by how much the canary's share of failed requests may exceed
	// the stable variant's. Zero: not at all; negative: do not look.
	Errors float64
	// Latency is by how much the canary's 95th percentile may exceed the stable
	// variant's, as a share of it. Negative: do not look.
	Latency float64
	// Trips is by how much the canary's share of requests that meet an open
	// circuit may exceed the stable variant's. Negative: do not look.
	Trips float64
}

// mostSteps bounds what a table must show.
const mostSteps = 20

// Validate refuses what cannot be meant.
func (p *Plan) Validate() error {
	if len(p.Steps) == 0 || len(p.Steps) > mostSteps {
		return fmt.Errorf("steps takes 1 to %d steps such as 5%% 15m, 25%% 15m, 100%%, got %d", mostSteps, len(p.Steps))
	}
	before := 0.0
	for i, s := range p.Steps {
		last := i == len(p.Steps)-1
		switch {
		case !(s.Share > before && s.Share <= 1):
			return fmt.Errorf("steps: each share is above the one before it and up to 100%%; step %d is %s", i+1, Percent(s.Share))
		case last && s.Share != 1:
			return fmt.Errorf("steps: the last step is 100%%, got %s; a share that is to stay is a weight of the flag, not a rollout", Percent(s.Share))
		case last && s.For != 0:
			return errors.New("steps: the last step takes no time: at 100% nobody is left to compare with; write 99% 10m, 100% to be guarded")
		case !last && s.For <= 0:
			return fmt.Errorf("steps: step %d needs the time that it must be healthy, such as %s 15m", i+1, Percent(s.Share))
		}
		before = s.Share
	}
	if p.MinRequests < 1 {
		return fmt.Errorf("min_requests takes a whole number of at least 1, got %d", p.MinRequests)
	}
	return nil
}

const (
	guardErrors  = "error_ratio"
	guardLatency = "latency_p95"
	guardTrips   = "breaker_trips"
)

// Guards are the names under which a rollback tells of its reason.
var Guards = []string{guardErrors, guardLatency, guardTrips}

// falseAlarm is the chance, at most, with which a canary that is no worse than
// allowed is ever taken back, over a whole rollout and all guards together.
const falseAlarm = 0.009

// threshold is the logarithm of the evidence that takes the canary back.
func (p *Plan) threshold() float64 {
	n := 0.0
	for _, margin := range []float64{p.Errors, p.Latency, p.Trips} {
		if margin >= 0 {
			n++
		}
	}
	return math.Log(max(n, 1) / falseAlarm)
}

// Percent writes a share as operators do.
func Percent(share float64) string {
	return fmt.Sprintf("%g%%", math.Round(share*1e6)/1e4)
}
