package ratelimit

import (
	"errors"
	"math"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// flight is the part of an account that is on its way to Redis.
type flight struct {
	debit, since float64
	cost         float64
	tries        []*try
	sent         float64
}

// Fill implements ledger.Command: debits and tries of one cost travel together.
func (a *account) Fill(c *ledger.Call) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queued = notQueued
	if a.flight != nil {
		return false // Settle queues again
	}
	f := &a.spare
	f.debit, f.since, f.cost, f.tries = a.unsent, a.since, 0, f.tries[:0]
	a.waiting = liveTries(a.waiting)
	for len(f.tries) < len(a.waiting) && a.waiting[len(f.tries)].cost == a.waiting[0].cost {
		f.tries = append(f.tries, a.waiting[len(f.tries)])
		f.cost = a.waiting[0].cost
	}
	if f.debit == 0 && len(f.tries) == 0 {
		return false
	}
	a.waiting = dropTries(a.waiting, len(f.tries))
	a.unsent, a.flight = 0, f
	now := time.Now()
	f.sent = instant(now)
	count, age := float64(len(f.tries)), math.Max(f.sent-f.since, 0)+a.way
	if a.rule.kind != bucket {
		c.Reset(ledger.Group)
		a.itemLocked(c, now, f.cost, count, f.debit, "")
		return true
	}
	c.Reset(ledger.GCRA)
	c.Key(a.name)
	c.Number(a.rule.gcra.Every)
	c.Number(a.rule.gcra.Depth)
	c.Number(f.cost)
	c.Number(count)
	c.Number(f.debit)
	c.Number(age)
	c.Number(a.server)
	c.Number(a.floorLocked(now))
	c.Number(a.grace)
	return true
}

// floorLocked is the TAT below which Redis cannot be, should it have less.
func (a *account) floorLocked(now time.Time) float64 {
	if a.unsure || a.ledger.Doubted(now) {
		return a.server
	}
	return 0
}

// itemLocked writes the account's part of a group; group.lua has the layout.
func (a *account) itemLocked(c *ledger.Call, now time.Time, cost, count, forced float64, member string) {
	r := a.rule
	c.Key(a.name)
	switch r.kind {
	case slidingLog:
		c.Text("l")
		c.Numbers(r.limit, r.window, cost, count, forced, 0, 0, 0, 0)
	case fixedWindow:
		p := r.at(instant(now))
		c.Text("c")
		c.Numbers(r.limit, p.start, cost, count, forced, p.end, p.next, 0, 0)
	case concurrent:
		c.Text("s")
		c.Numbers(r.limit, r.lease, cost, count, forced)
		c.Text(member)
		c.Numbers(0, 0, 0)
	default:
		c.Text("g")
		c.Numbers(r.gcra.Every, r.gcra.Depth, cost, count, forced, 0, a.server, a.floorLocked(now), a.grace)
	}
}

// Settle implements ledger.Command.
func (a *account) Settle(answer []int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.flight
	a.flight = nil
	if err != nil {
		a.failLocked(f, err)
	} else {
		a.answeredLocked(f, answer)
	}
	clear(f.tries)
	a.queueLocked()
}

// Reject implements ledger.Command.
func (a *account) Reject() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queued = notQueued
	a.giveUpLocked()
}

// giveUpLocked has those who wait decide for themselves.
func (a *account) giveUpLocked() {
	for _, t := range a.waiting {
		a.correctLocked(t.settle(false, 0, ledger.ErrClosed))
	}
	clear(a.waiting)
	a.waiting = a.waiting[:0]
	a.oweLocked()
}

func (a *account) failLocked(f *flight, err error) {
	switch {
	case errors.Is(err, ledger.ErrAmbiguous):
		a.supposeLocked(f)
	case f.debit != 0:
		if a.unsent == 0 || f.since < a.since {
			a.since = f.since
		}
		a.unsent += f.debit
	}
	for _, t := range f.tries {
		a.correctLocked(t.settle(false, 0, err))
	}
}

// correctLocked charges what a request that did not wait to the end took, or
// gives back what it did not take.
func (a *account) correctLocked(charge float64) {
	if charge != 0 {
		a.chargeLocked(instant(time.Now()), charge)
	}
}

// supposeLocked notes what the TAT is if the flight was executed. The next
// script call takes the later of this and what Redis has: that charges the
// flight if it was lost, and cannot charge it twice if it was not.
func (a *account) supposeLocked(f *flight) {
	debit := f.debit
	for _, t := range f.tries {
		if t.state.Load() == admitted {
			debit += t.cost
		}
	}
	if !a.known || debit <= 0 || a.rule.kind != bucket {
		return
	}
	tat := math.Max(a.tat, f.since) + a.rule.gcra.Every*debit
	a.server += tat - a.tat
	a.tat, a.unsure = tat, true
}

func (a *account) answeredLocked(f *flight, answer []int64) {
	// GCRA answers admitted, wait, TAT, now; Group answers now, admitted, wait, state.
	admitted, wait, state, now := answer[0], answer[1], answer[2], answer[3]
	if a.rule.kind != bucket {
		now, admitted, wait, state = answer[0], answer[1], answer[2], answer[3]
	}
	a.learnLocked(f.sent, f.cost, float64(wait), float64(state), float64(now))
	if over := -a.rule.gcra.Left(float64(state), float64(now)); a.rule.kind == bucket && f.debit > 0 && over > 0 {
		overshoot.Observe(over)
	}
	for i, t := range f.tries {
		t.at = float64(now)
		a.correctLocked(t.settle(int64(i) < admitted, float64(wait), nil))
	}
}

// learnLocked takes over what Redis has answered to a call that was sent at sent
// about requests of this cost.
func (a *account) learnLocked(sent, cost, wait, state, now float64) {
	a.known, a.unsure = true, false
	received := instant(time.Now())
	a.way += ((received-sent)/2 - a.way) / 8
	if a.rule.kind == bucket {
		a.server, a.tat = state, received+(state-now)
		// The fallback goes on from here, should there be no further answer.
		a.own.tat = a.tat + a.rule.gcra.Every*a.pendingLocked()
	} else {
		a.used = state
	}
	if cost > 0 && wait > a.grace && a.rule.kind != concurrent {
		// The wait ran from an instant after sent on, so this is never too long.
		a.denied, a.deniedCost = sent+wait-a.grace, cost
	}
}
