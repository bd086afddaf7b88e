package circuit

import (
	"slices"
	"sync"
)

// halfOpen lets a few probes through. Enough good ones lead back, a single bad
// one leads to open. A probe that nobody hears of is a bad one at its deadline,
// and if the probes stay undecided for too long the state ends by itself: there
// is no way to be stuck here.
type halfOpen struct {
	since instant

	mu        sync.Mutex // guards what follows
	out       []*probe
	successes int
}

// probe is one request whose end decides.
type probe struct {
	deadline instant
	answered instant // zero until the answer has begun
	ended    bool
}

// verdict is what the probes amount to.
type verdict struct {
	decided, good bool
	reason        string
}

func (p *halfOpen) state() State   { return HalfOpen }
func (p *halfOpen) began() instant { return p.since }

func (p *halfOpen) admit(c *Circuit, own *generation, s *Settings, now instant) (Lease, bool) {
	p.mu.Lock()
	v := p.judgeLocked(s, now)
	if !v.decided {
		defer p.mu.Unlock()
		// No more probes than it takes: the others are better off elsewhere.
		if len(p.out) >= min(s.Probes, s.Successes-p.successes) {
			return Lease{}, false
		}
		next := &probe{deadline: now + s.ProbeTimeout}
		p.out = append(p.out, next)
		return Lease{gen: own, probe: next}, true
	}
	p.mu.Unlock()
	p.leave(c, own, v, s, now)
	if g := c.current.Load(); g != own && v.good {
		return g.admit(c, g, s, now)
	}
	return Lease{}, false
}

func (p *halfOpen) end(c *Circuit, own *generation, l Lease, r Result, s *Settings, now instant) {
	p.mu.Lock()
	v := p.judgeLocked(s, now)
	if !v.decided && !l.probe.ended {
		p.dropLocked(l.probe)
		switch {
		case r.Outcome == Ignored:
			// The slot is free again; nothing was learnt.
		case r.Outcome == Failure:
			v = verdict{decided: true, reason: "probe_failed"}
		case r.Slow && s.SlowRatio > 0:
			v = verdict{decided: true, reason: "probe_slow"}
		default:
			p.successes++
			v = p.judgeLocked(s, now)
		}
	}
	p.mu.Unlock()
	p.leave(c, own, v, s, now)
}

// answer notes that the probe's answer has begun.
func (p *halfOpen) answer(of *probe, now instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of.answered = max(now, 1)
}

// judgeLocked first lets time end probes, then says what they amount to.
func (p *halfOpen) judgeLocked(s *Settings, now instant) verdict {
	for _, out := range slices.Clone(p.out) {
		switch {
		case out.answered > 0:
			if now-out.answered >= s.StreamOK {
				p.dropLocked(out)
				p.successes++
			}
		case now >= out.deadline:
			return verdict{decided: true, reason: "probe_timeout"}
		}
	}
	switch {
	case p.successes >= s.Successes:
		return verdict{decided: true, good: true, reason: "probes_succeeded"}
	case now-p.since >= s.HalfOpenMax:
		return verdict{decided: true, reason: "undecided"}
	}
	return verdict{}
}

func (p *halfOpen) dropLocked(of *probe) {
	of.ended = true
	p.out = slices.DeleteFunc(p.out, func(o *probe) bool { return o == of })
}

func (p *halfOpen) leave(c *Circuit, own *generation, v verdict, s *Settings, now instant) {
	switch {
	case !v.decided:
	case !v.good:
		c.shift(own, now, v.reason, func() phase {
			c.level++
			return c.stayOpenLocked(now, s)
		})
	case s.Ramp > 0:
		c.shift(own, now, v.reason, func() phase { return newRamping(now, s) })
	default:
		c.shift(own, now, v.reason, func() phase { return &closed{since: now} })
	}
}

// peek says yes as well when time has decided something, so that somebody comes
// and takes notice.
func (p *halfOpen) peek(now instant, s *Settings) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.out) < min(s.Probes, s.Successes-p.successes) || now-p.since >= s.HalfOpenMax {
		return true
	}
	return slices.ContainsFunc(p.out, func(o *probe) bool {
		if o.answered > 0 {
			return now-o.answered >= s.StreamOK
		}
		return now >= o.deadline
	})
}

func (p *halfOpen) view(v *View, _ *Circuit, _ instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v.Probes, v.Successes = len(p.out), p.successes
}
