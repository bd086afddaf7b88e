package ledger

import (
	"sync"
	"sync/atomic"
	"time"
)

// clock estimates what a server's clock shows. Each answer tells what it showed
// at some instant between sending and answer:
//
//	sent ──────┬────── received
//	           └ the server's now, give or take half the way
//
// The tightest answer of the last ten to twenty seconds is the estimate. With it
// a debit says when, by the server, its requests were admitted, however long
// it travels. A wrong estimate does little harm: see gcra.lua.
type clock struct {
	estimate atomic.Pointer[reading]

	mu         sync.Mutex // guards what follows
	began      time.Time
	this, last *reading // the tightest of this span and of the one before
}

// reading is what the server's clock showed.
type reading struct {
	at     time.Time
	shows  float64 // microseconds since 1.7e9
	within time.Duration
}

const clockSpan = 10 * time.Second

// on is what the clock shows at t.
func (r *reading) on(t time.Time) float64 {
	return r.shows + float64(t.Sub(r.at))/float64(time.Microsecond)
}

// heard takes an answer into account.
func (c *clock) heard(sent, received time.Time, shows float64) {
	half := received.Sub(sent) / 2
	r := &reading{sent.Add(half), shows, half}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.estimate.Load()
	switch {
	case now == nil || r.contradicts(now):
		// The first one, or the clock was set, or another server took over.
		c.this, c.last, c.began = r, nil, received
	case received.Sub(c.began) > clockSpan:
		c.this, c.last, c.began = r, c.this, received
	case c.this == nil || r.within <= c.this.within:
		c.this = r
	default:
		return
	}
	best := c.this
	if c.last != nil && c.last.within < best.within {
		best = c.last
	}
	c.estimate.Store(best)
}

// contradicts says that no clock that runs evenly showed both.
func (r *reading) contradicts(o *reading) bool {
	apart := time.Duration((r.shows - o.on(r.at)) * float64(time.Microsecond))
	return apart.Abs() > r.within+o.within+2*time.Millisecond
}
