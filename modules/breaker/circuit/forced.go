package circuit

// forced is an operator's word. It ends by itself, because nobody remembers to
// take it back: closed follows, with nothing seen.
type forced struct {
	kind         State
	since, until instant
}

func (p *forced) state() State   { return p.kind }
func (p *forced) began() instant { return p.since }

func (p *forced) admit(c *Circuit, own *generation, s *Settings, now instant) (Lease, bool) {
	if now >= p.until {
		c.shift(own, now, "forced_time_over", func() phase { return &closed{since: now} })
		if next := c.current.Load(); next != own {
			return next.admit(c, next, s, now)
		}
	}
	if p.kind == ForcedOpen {
		return Lease{}, false
	}
	return Lease{gen: own}, true
}

// end counts nothing: whatever comes, the state stays.
func (p *forced) end(*Circuit, *generation, Lease, Result, *Settings, instant) {}

func (p *forced) peek(now instant, _ *Settings) bool {
	return p.kind != ForcedOpen || now >= p.until
}

func (p *forced) view(v *View, c *Circuit, _ instant) { v.Until = c.epoch.Add(p.until) }
