package circuit

import "sync/atomic"

// closed lets everything through and watches. It is the only state that busy
// requests meet, so it holds no lock: a good result is one or two atomic adds.
type closed struct {
	since       instant
	seen        atomic.Pointer[watch]
	consecutive atomic.Int32
}

// watch is a window and what it was made for. A configuration with another
// window starts a new one; the state stays.
type watch struct {
	geometry geometry
	window   window
}

func (p *closed) state() State   { return Closed }
func (p *closed) began() instant { return p.since }

func (p *closed) admit(_ *Circuit, own *generation, _ *Settings, _ instant) (Lease, bool) {
	return Lease{gen: own}, true
}

func (p *closed) end(c *Circuit, own *generation, _ Lease, r Result, s *Settings, now instant) {
	if r.Outcome == Ignored {
		return
	}
	w := p.watch(s).window
	w.add(r, now)
	if r.Outcome == Success && p.consecutive.Load() != 0 {
		p.consecutive.Store(0)
	}
	if !r.bad() {
		return // a good result cannot raise a share of bad ones
	}
	run := int(p.consecutive.Load())
	if r.Outcome == Failure {
		run = int(p.consecutive.Add(1))
	}
	if reason, tripped := s.trips(w.counts(now), run, s.MinRequests); tripped {
		c.shift(own, now, reason, func() phase { return c.openLocked(now, p.since, s) })
	}
}

func (p *closed) watch(s *Settings) *watch {
	g := s.geometry()
	w := p.seen.Load()
	for w == nil || w.geometry != g {
		p.seen.CompareAndSwap(w, &watch{g, newWindow(g)})
		w = p.seen.Load()
	}
	return w
}

func (p *closed) peek(instant, *Settings) bool { return true }

func (p *closed) view(v *View, _ *Circuit, now instant) {
	if w := p.seen.Load(); w != nil {
		v.Counts = w.window.counts(now)
	}
}
