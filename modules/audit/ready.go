package audit

import (
	"context"
	"fmt"
	"time"
)

// lateAfter is how old the oldest event may be that a sink does not have.
const lateAfter = time.Minute

// degraded says that audit has a problem which takes no instance out of service.
type degraded string

func (d degraded) Error() string { return string(d) }
func (degraded) Degraded() bool  { return true }

// Ready says what of audit does not work. Events are being kept, or their loss
// counted; either way the gateway serves.
func (a *App) Ready(context.Context) error {
	if !a.on || !a.attached {
		return nil
	}
	d := a.desk
	if d.dir != "" && !d.journal.Stats().Durable {
		return degraded("the spool's disk takes no events; they wait in memory")
	}
	if d.lostSince.Load() != 0 {
		return degraded("events are dropped: the spool is full")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, dl := range d.deliveries {
		if age := dl.lag(time.Now()); age > lateAfter {
			return degraded(fmt.Sprintf("sink '%s' is %v behind", name, age.Round(time.Second)))
		}
	}
	return nil
}
