package audit

import (
	"context"
	"strconv"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// tidy does what is due every second: floods are summed up, losses told,
// gauges set.
func (d *desk) tidy(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if a := d.newest(); a != nil {
				d.settle(a, now)
			}
			if d.dir != "" {
				d.keepPlaces()
			} else {
				d.release()
			}
			d.measure(now)
		}
	}
}

// settle writes down what was held back until now.
func (d *desk) settle(a *App, now time.Time) {
	for _, f := range d.floods.over(now) {
		a.flood(f)
	}
	d.tellLosses(a, now)
	d.tellRefused(a, now)
	d.sign(a, now, false)
}

// tellLosses records how many events found no room, as soon as one does.
func (d *desk) tellLosses(a *App, now time.Time) {
	since := d.lostSince.Load()
	if since == 0 {
		return
	}
	var lost [len(classNames)]int64
	for i := range lost {
		lost[i] = d.lost[i].Load()
	}
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, gapKind, now, other)
	p.raw("status_id", "2")
	p.text("message", "audit events were dropped because the spool was full")
	p.open("unmapped")
	p.text("reason", "full")
	p.instant("since", time.Unix(0, since))
	p.open("dropped")
	for i, n := range lost {
		if n > 0 {
			p.num(classNames[i], n)
		}
	}
	p.end()
	p.end()
	finish(p)
	if _, err := d.journal.Append(uint8(config), now, p.b); err != nil {
		return // no room for the news of it either; the next tick tries again
	}
	accepted[config].Inc()
	gaps.WithLabelValues("full").Inc()
	d.lostSince.Store(0)
	for i, n := range lost {
		d.lost[i].Add(-n)
	}
}

// gap records that a sink has not got count events from first on.
func (d *desk) gap(reason, sink string, count int64, first spool.Mark) {
	gaps.WithLabelValues(reason).Inc()
	a := d.newest()
	if a == nil {
		return
	}
	now := time.Now()
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, gapKind, now, other)
	p.raw("status_id", "2")
	p.text("message", "a sink has not got some audit events")
	p.open("unmapped")
	p.text("reason", reason)
	p.text("sink", sink)
	p.num("count", count)
	p.text("first_seq", strconv.FormatUint(first.Seq, 10))
	p.end()
	finish(p)
	_, _ = d.put(config, now, p.b) // a failure is counted, and told as a loss
}

func (d *desk) measure(now time.Time) {
	s := d.journal.Stats()
	spoolBytes.WithLabelValues().Set(float64(s.Bytes))
	age := 0.0
	if !s.Oldest.IsZero() {
		age = max(0, now.Sub(s.Oldest).Seconds())
	}
	spoolAge.WithLabelValues().Set(age)
	isDurable := 0.0
	if s.Durable {
		isDurable = 1
	}
	durable.WithLabelValues().Set(isDurable)
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, dl := range d.deliveries {
		lagEvents.WithLabelValues(name).Set(float64(s.Last.Seq - min(s.Last.Seq, dl.at.Load().Seq)))
		lagSeconds.WithLabelValues(name).Set(dl.lag(now).Seconds())
	}
}

// tellDead records that a sink never takes an event.
func (d *desk) tellDead(sink string, e Event, cause error) {
	a := d.newest()
	if a == nil || e.Type == "sallyport."+deadKind.name {
		return // no event about an event about an event
	}
	now := time.Now()
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, deadKind, now, other)
	p.raw("status_id", "2")
	p.text("message", "a sink refuses an event for good; it was set aside")
	p.open("unmapped")
	p.text("sink", sink)
	p.text("of", e.Type)
	p.text("seq", strconv.FormatUint(e.Mark.Seq, 10))
	p.text("epoch", strconv.FormatUint(e.Mark.Epoch, 10))
	p.text("error", cause.Error())
	p.end()
	finish(p)
	_, _ = d.put(config, now, p.b) // a failure is counted, and told as a loss
}
