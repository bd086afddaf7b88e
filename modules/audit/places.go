package audit

import (
	"maps"
	"slices"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// keepPlaces stores how far every sink has come and lets go of what all have.
func (d *desk) keepPlaces() {
	d.mu.Lock()
	list := slices.Collect(maps.Values(d.deliveries))
	d.mu.Unlock()
	for _, dl := range list {
		d.keep(dl)
	}
	d.release()
}

func (d *desk) release() {
	d.mu.Lock()
	m, any := d.passedLocked()
	d.mu.Unlock()
	if any {
		d.journal.Release(m)
	}
}

// passedLocked is the place that every required sink has passed, and every
// optional one that lags no more than it may while there is room; where no
// sink is required, every sink.
func (d *desk) passedLocked() (least spool.Mark, any bool) {
	required := false
	for _, dl := range d.deliveries {
		required = required || dl.bound.Load().required
	}
	roomy := false
	if n := len(d.apps); n > 0 {
		roomy = d.journal.Stats().Bytes < d.apps[n-1].MaxBytes/2
	}
	for _, dl := range d.deliveries {
		if b := dl.bound.Load(); required && !b.required && !(roomy && dl.lag(time.Now()) < b.maxLag) {
			continue
		}
		at := *dl.at.Load()
		if d.dir != "" {
			at = d.places[dl.name]
		}
		if !any || at.Seq < least.Seq {
			least, any = at, true
		}
	}
	return least, any
}
