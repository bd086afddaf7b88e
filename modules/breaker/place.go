package breaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Concurrency bounds how many requests are on the bridge at a time. A stream
// counts for as long as it lasts.
type Concurrency struct {
	// Limit is the largest number. Required unless Adaptive.
	Limit int `json:"limit,omitempty"`

	// Adaptive finds the limit by itself: it falls when answers take longer than
	// they used to, or time out, and grows while they do not and it is used.
	Adaptive bool `json:"adaptive,omitempty"`
	// Least and Most bound an adaptive limit. Default: 10 and 1000.
	Least int `json:"least,omitempty"`
	Most  int `json:"most,omitempty"`

	// Queue is how many requests may wait for a place, first come, first served.
	// Default: 0, nobody waits.
	Queue int `json:"queue,omitempty"`
	// Wait is how long each may wait. Default: 1s.
	Wait caddy.Duration `json:"wait,omitempty"`
}

func (c *Concurrency) fill() {
	if c.Adaptive {
		def(&c.Least, 10)
		def(&c.Most, max(1000, c.Least))
	}
	if c.Queue > 0 {
		def(&c.Wait, caddy.Duration(time.Second))
	}
}

func (c *Concurrency) check() error {
	switch {
	case c.Adaptive && c.Limit != 0:
		return errors.New("takes either a limit or adaptive")
	case c.Adaptive && (c.Least < 1 || c.Most < c.Least):
		return fmt.Errorf("adaptive takes a least of 1 or more and a most of no less, got %d and %d", c.Least, c.Most)
	case !c.Adaptive && c.Limit < 1:
		return fmt.Errorf("takes a limit of 1 or more, got %d", c.Limit)
	case !c.Adaptive && (c.Least != 0 || c.Most != 0):
		return errors.New("takes least and most with adaptive only")
	case c.Queue < 0 || c.Wait < 0:
		return errors.New("queue and wait cannot be negative")
	}
	return nil
}

// place counts the requests on one bridge. It outlives reloads, so that those
// that are still there count for the next configuration as well.
type place struct {
	inside  atomic.Int64
	waiting atomic.Int64

	mu    sync.Mutex // guards queue
	queue []chan struct{}

	adaptive adaptive
}

// limit is how many may be inside now.
func (p *place) limit(c *Concurrency) int64 {
	if !c.Adaptive {
		return int64(c.Limit)
	}
	return p.adaptive.limit(c.Least, c.Most)
}

// enter takes a place, waiting for one if the queue has room. Whoever gets one
// must leave.
func (p *place) enter(ctx context.Context, c *Concurrency) bool {
	if p.waiting.Load() == 0 && p.take(c) {
		return true
	}
	mine, inside := p.line(c)
	if mine == nil {
		return inside
	}
	timer := time.NewTimer(time.Duration(c.Wait))
	defer timer.Stop()
	select {
	case <-mine:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.abandon(mine)
}

func (p *place) take(c *Concurrency) bool {
	for {
		n := p.inside.Load()
		if n >= p.limit(c) {
			return false
		}
		if p.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// line joins the queue. It returns nil where that is not needed or not possible.
func (p *place) line(c *Concurrency) (mine chan struct{}, inside bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) >= c.Queue {
		return nil, len(p.queue) == 0 && p.take(c)
	}
	p.waiting.Add(1) // before the last look: whoever leaves now sees somebody wait
	if len(p.queue) == 0 && p.take(c) {
		p.waiting.Add(-1)
		return nil, true
	}
	mine = make(chan struct{})
	p.queue = append(p.queue, mine)
	return mine, false
}

// abandon leaves the queue. A place that was handed over meanwhile is kept.
func (p *place) abandon(mine chan struct{}) (inside bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.queue, mine)
	if i < 0 {
		return true
	}
	p.queue = slices.Delete(p.queue, i, i+1)
	p.waiting.Add(-1)
	return false
}

// leave gives the place back, to the first who waits if there is one.
func (p *place) leave(c *Concurrency) {
	p.inside.Add(-1)
	if p.waiting.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 && p.take(c) {
		close(p.queue[0])
		p.queue = slices.Delete(p.queue, 0, 1)
		p.waiting.Add(-1)
	}
}
