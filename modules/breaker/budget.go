package breaker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// RetryBudget bounds retries to a share of the requests, so that a failing
// upstream does not get a multiple of them. An attempt that could not connect
// was no burden to anybody and its retry costs nothing.
type RetryBudget struct {
	// Ratio is how much of a retry each request earns. Default: 0.2. Negative:
	// retries are not bounded.
	Ratio float64 `json:"ratio,omitempty"`
	// PerSecond is how many retries a second are earned besides, for routes
	// with few requests. Default: 1. Negative: none.
	PerSecond float64 `json:"per_second,omitempty"`
}

func (b *RetryBudget) fill() {
	def(&b.Ratio, 0.2)
	def(&b.PerSecond, 1)
}

func (b *RetryBudget) check() error {
	if b.Ratio > 1 {
		return fmt.Errorf("takes a share up to 1, got %g", b.Ratio)
	}
	return nil
}

// purse holds what was earned and not spent, in thousandths of a retry. It
// outlives reloads.
type purse struct {
	held atomic.Int64

	mu   sync.Mutex // guards last
	last time.Time
}

const (
	oneRetry = 1000
	// purseStart lets the first requests after a start retry, purseMax is what
	// a quiet time can save for a bad one.
	purseStart = 10 * oneRetry
	purseMax   = 100 * oneRetry
)

// earn adds one request's share.
func (p *purse) earn(b *RetryBudget) {
	if b.Ratio > 0 && p.held.Load() < purseMax {
		p.held.Add(int64(b.Ratio * oneRetry))
	}
}

// spend takes one retry, if it is there.
func (p *purse) spend(b *RetryBudget, now time.Time) bool {
	if b.Ratio < 0 {
		return true
	}
	p.refill(b, now)
	for {
		held := p.held.Load()
		if held < oneRetry {
			return false
		}
		if p.held.CompareAndSwap(held, held-oneRetry) {
			return true
		}
	}
}

func (p *purse) refill(b *RetryBudget, now time.Time) {
	if b.PerSecond <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() {
		earned := int64(now.Sub(p.last).Seconds() * b.PerSecond * oneRetry)
		if earned == 0 {
			return // keep the rest of the time for the next one
		}
		if room := purseMax - p.held.Load(); room > 0 {
			p.held.Add(min(earned, room))
		}
	}
	p.last = now
}
