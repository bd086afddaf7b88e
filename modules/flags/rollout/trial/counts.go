package trial

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"
)

// Outcome is how one request ended.
type Outcome struct {
	// Failed is an error of the variant: a 5xx or the gRPC status 2, 4, 13, 14
	// or 15. A refusal of the caller is none.
	Failed bool
	// Tripped says that it met an open circuit.
	Tripped bool
	// Took is its duration.
	Took time.Duration
}

// Latencies are counted by edges that grow by the eighth root of two, from a
// quarter of a millisecond to more than four minutes.
const (
	buckets   = 160
	perOctave = 8
	floor     = 250 * time.Microsecond
)

// bucketOf is the bucket of a duration: the first whose edge is not below it.
func bucketOf(d time.Duration) int {
	if d <= floor {
		return 0
	}
	return min(int(math.Ceil(perOctave*math.Log2(float64(d)/float64(floor)))), buckets-1)
}

// edge is the longest duration of a bucket.
func edge(bucket int) time.Duration {
	return time.Duration(float64(floor) * math.Exp2(float64(bucket)/perOctave))
}

// Counts is what one variant did in one window.
type Counts struct {
	Failed, Tripped int64
	// Took is how many requests took how long, by bucket; every request is in it.
	Took [buckets]int64
}

// Requests is how many there were.
func (c *Counts) Requests() (n int64) {
	for _, k := range c.Took {
		n += k
	}
	return n
}

// above is how many took longer than the bucket's edge.
func (c *Counts) above(bucket int) (n int64) {
	for i := bucket + 1; i < buckets; i++ {
		n += c.Took[i]
	}
	return n
}

// Window is what both variants did in one stretch of time.
type Window struct{ Stable, Canary Counts }

// Add adds what happened in o.
func (w *Window) Add(o *Window) {
	w.Stable.add(&o.Stable)
	w.Canary.add(&o.Canary)
}

// Each calls f for each counter that is not zero, by a short name.
func (w *Window) Each(f func(name string, n int64)) {
	for arm, c := range map[string]*Counts{"s": &w.Stable, "c": &w.Canary} {
		for i, n := range c.Took {
			if n != 0 {
				f(arm+strconv.Itoa(i), n)
			}
		}
		if c.Failed != 0 {
			f(arm+"f", c.Failed)
		}
		if c.Tripped != 0 {
			f(arm+"t", c.Tripped)
		}
	}
}

// Count adds to the counter that Each gave this name; another is passed over.
func (w *Window) Count(name string, n int64) {
	if name == "" || n < 0 {
		return
	}
	c := &w.Stable
	switch name[0] {
	case 's':
	case 'c':
		c = &w.Canary
	default:
		return
	}
	switch kind := name[1:]; kind {
	case "f":
		c.Failed += n
	case "t":
		c.Tripped += n
	default:
		if i, err := strconv.Atoi(kind); err == nil && i >= 0 && i < buckets {
			c.Took[i] += n
		}
	}
}

func (c *Counts) add(o *Counts) {
	c.Failed += o.Failed
	c.Tripped += o.Tripped
	for i, n := range o.Took {
		c.Took[i] += n
	}
}

// Empty says that nothing happened in it.
func (w *Window) Empty() bool { return *w == Window{} }

// Tally counts outcomes on the path of requests: one atomic addition for a
// request that goes well.
type Tally struct{ arms [2]armTally }

type armTally struct {
	failed, tripped atomic.Int64
	took            [buckets]atomic.Int64
}

// Observe counts one outcome.
func (t *Tally) Observe(canary bool, o Outcome) {
	a := &t.arms[0]
	if canary {
		a = &t.arms[1]
	}
	if o.Failed {
		a.failed.Add(1)
	}
	if o.Tripped {
		a.tripped.Add(1)
	}
	a.took[bucketOf(o.Took)].Add(1)
}

// Take returns what was counted since it was last called.
func (t *Tally) Take() (w Window) {
	t.arms[0].take(&w.Stable)
	t.arms[1].take(&w.Canary)
	return w
}

func (a *armTally) take(c *Counts) {
	for i := range a.took {
		if a.took[i].Load() != 0 {
			c.Took[i] = a.took[i].Swap(0)
		}
	}
	// A request that is being counted may be in Took a window later than here.
	n := c.Requests()
	c.Failed = takeUpTo(&a.failed, n)
	c.Tripped = takeUpTo(&a.tripped, n)
}

// takeUpTo leaves for the next window what this one has no requests for.
func takeUpTo(v *atomic.Int64, most int64) int64 {
	n := min(v.Load(), most)
	v.Add(-n)
	return n
}

// profile is the recent distribution of the stable variant's latencies.
type profile struct {
	Took []float64 `json:"took,omitempty"`
}

func (p *profile) add(c *Counts) {
	if c.Requests() == 0 {
		return
	}
	if len(p.Took) != buckets {
		p.Took = make([]float64, buckets)
	}
	for i, n := range c.Took {
		p.Took[i] = math.Round(1e3*(memory*p.Took[i]+float64(n))) / 1e3 // short in JSON
	}
}

// p95 is the bucket that holds the 95th percentile; known is false where too
// little was seen to tell.
func (p *profile) p95() (bucket int, known bool) {
	var all, sum float64
	for _, n := range p.Took {
		all += n
	}
	if all < 40 { // two of the slowest twentieth
		return 0, false
	}
	for i, n := range p.Took {
		if sum += n; sum >= 0.95*all {
			return i, true
		}
	}
	return buckets - 1, true
}
