package circuit

import "time"

// View is what an operator sees of a circuit.
type View struct {
	State State
	// Since is when the state was entered, and Reason why; Note is what an
	// operator said who forced it.
	Since        time.Time
	Reason, Note string
	// Until is when an open or forced state ends; zero for the others.
	Until time.Time
	// Counts are the results in the window of a closed or ramping circuit, or
	// those that an open one opened for.
	Counts Counts
	// Probes are out, and Successes have come back well, while half open.
	Probes, Successes int
	// Share is how much a ramping circuit lets through; 1 or 0 otherwise.
	Share float64
	// Level is how often the open time was doubled.
	Level int
}

// View describes the circuit as it stands. Where time has ended the state but
// no request came to notice, the state that ended is shown with its Until.
func (c *Circuit) View(now time.Time) View {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.current.Load()
	v := View{State: g.state(), Since: c.epoch.Add(g.began()), Reason: c.reason, Note: c.note, Level: c.level}
	if s := v.State; s == Closed || s == ForcedClosed || s == Disabled {
		v.Share = 1
	}
	g.view(&v, c, now.Sub(c.epoch))
	return v
}

// RetryAfter is how long a caller that was refused had better wait.
func (c *Circuit) RetryAfter(now time.Time) time.Duration {
	t := now.Sub(c.epoch)
	switch p := c.current.Load().phase.(type) {
	case *open:
		return max(p.until-t, 0)
	case *forced:
		if p.kind == ForcedOpen {
			return max(p.until-t, 0)
		}
	case *halfOpen, *ramping:
		return time.Second
	}
	return 0
}
