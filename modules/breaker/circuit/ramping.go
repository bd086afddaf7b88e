package circuit

import "sync"

// steps is in how many parts requests come back.
const steps = 4

// rampMinRequests is how few results may open a ramping circuit again: it was
// open a moment ago, so that less evidence is needed.
const rampMinRequests = 5

// ramping lets a quarter of the requests through, then a half, then three. A
// step is taken when its time is over and enough good results came in it, so
// that an idle upstream is not believed to be well. Bad results lead to open.
type ramping struct {
	since    instant
	geometry geometry
	window   window

	mu        sync.Mutex // guards what follows
	step      int
	stepSince instant
	asked     uint64
	successes int
	run       int // failures in a row
}

func newRamping(now instant, s *Settings) *ramping {
	g := s.geometry()
	return &ramping{since: now, geometry: g, window: newWindow(g), step: 1, stepSince: now}
}

func (p *ramping) state() State   { return Ramping }
func (p *ramping) began() instant { return p.since }

func (p *ramping) admit(_ *Circuit, own *generation, _ *Settings, _ instant) (Lease, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Spread those let through evenly; the first one is.
	before := p.asked * uint64(p.step) / steps
	p.asked++
	if p.asked > 1 && p.asked*uint64(p.step)/steps == before {
		return Lease{}, false
	}
	return Lease{gen: own}, true
}

func (p *ramping) end(c *Circuit, own *generation, _ Lease, r Result, s *Settings, now instant) {
	if r.Outcome == Ignored {
		return
	}
	p.window.add(r, now)
	if !r.bad() {
		if p.advance(s, now) {
			c.shift(own, now, "ramp_over", func() phase { return &closed{since: now} })
		}
		return
	}
	p.mu.Lock()
	p.run++
	run := p.run
	p.mu.Unlock()
	if reason, tripped := s.trips(p.window.counts(now), run, min(s.MinRequests, rampMinRequests)); tripped {
		c.shift(own, now, reason, func() phase { return c.openLocked(now, p.since, s) })
	}
}

// advance counts one good result and says whether the ramp is over.
func (p *ramping) advance(s *Settings, now instant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run = 0
	p.successes++
	if p.successes < s.Successes || now-p.stepSince < s.Ramp/steps {
		return false
	}
	p.step, p.stepSince, p.successes = p.step+1, now, 0
	return p.step == steps
}

func (p *ramping) peek(instant, *Settings) bool { return true }

func (p *ramping) view(v *View, _ *Circuit, now instant) {
	v.Counts = p.window.counts(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	v.Share = float64(p.step) / steps
}
