package circuit

// open lets nothing through until its time is over.
type open struct {
	since, until instant
	tripped      Counts // what the circuit opened for
}

func (p *open) state() State   { return Open }
func (p *open) began() instant { return p.since }

func (p *open) admit(c *Circuit, own *generation, s *Settings, now instant) (Lease, bool) {
	if now < p.until {
		return Lease{}, false
	}
	c.shift(own, now, "open_time_over", func() phase { return &halfOpen{since: now} })
	next := c.current.Load()
	if next == own {
		return Lease{}, false
	}
	return next.admit(c, next, s, now)
}

// end is never called: an open circuit gives out no lease.
func (p *open) end(*Circuit, *generation, Lease, Result, *Settings, instant) {}

func (p *open) peek(now instant, _ *Settings) bool { return now >= p.until }

func (p *open) view(v *View, c *Circuit, _ instant) {
	v.Until, v.Counts = c.epoch.Add(p.until), p.tripped
}
