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
	count, age := float64(len(f.tries)), math.Max(f.sent-f.since, 0)
	if a.rule.kind != bucket {
		c.Reset(ledger.Group)
		a.itemLocked(c, now, f.cost, count, f.debit, "")
		return true
	}
	c.Reset(ledger.GCRA)
	c.Item(a.name, a.rule.gcra.Every, a.rule.gcra.Depth, f.cost, count, f.debit, age, c.ServerTime(now)-age, a.server, a.floorLocked(now), a.grace)
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
	switch r.kind {
	case slidingLog:
		c.KindItem(a.name, "l", "", r.limit, r.window, cost, count, forced, 0, 0, 0, 0)
	case fixedWindow:
		p := r.at(instant(now))
		c.KindItem(a.name, "c", "", r.limit, p.start, cost, count, forced, p.end, p.next, 0, 0)
	case concurrent:
		c.KindItem(a.name, "s", member, r.limit, r.lease, cost, count, forced, 0, 0, 0, 0)
	default:
		c.KindItem(a.name, "g", "", r.gcra.Every, r.gcra.Depth, cost, count, forced, 0, a.server, a.floorLocked(now), a.grace)
	}
}

// Settle implements ledger.Command.
func (a *account) Settle(answer []float64, err error) {
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
	owed := 0.0 // by those who went on without the answer
	for _, t := range f.tries {
		owed += t.settle(false, 0, err)
	}
	switch {
	case errors.Is(err, ledger.ErrAmbiguous):
		a.supposeLocked(f.since, f.debit+owed)
		return
	case f.debit != 0:
		if a.unsent == 0 || f.since < a.since {
			a.since = f.since
		}
		a.unsent += f.debit
	}
	a.correctLocked(owed)
}

// correctLocked charges what a request that did not wait to the end took, or
// gives back what it did not take.
func (a *account) correctLocked(charge float64) {
	if charge != 0 {
		a.chargeLocked(instant(time.Now()), charge)
	}
}

// supposeLocked notes what the TAT is if debit was executed. The next script
// call takes the later of this and what Redis has: that charges the debit if it
// was lost, and cannot charge it twice if it was not.
func (a *account) supposeLocked(since, debit float64) {
	if !a.known || debit <= 0 || a.rule.kind != bucket {
		return
	}
	tat := math.Max(a.tat, since) + a.rule.gcra.Every*debit
	a.server += tat - a.tat
	a.tat, a.unsure = tat, true
}

func (a *account) answeredLocked(f *flight, answer []float64) {
	// GCRA answers admitted, wait, TAT, now; Group answers now, admitted, wait, state.
	admitted, wait, state, now := answer[0], answer[1], answer[2], answer[3]
	if a.rule.kind != bucket {
		now, admitted, wait, state = answer[0], answer[1], answer[2], answer[3]
	}
	a.learnLocked(f.sent, f.cost, wait, state, now)
	if over := -a.rule.gcra.Left(state, now); a.rule.kind == bucket && f.debit > 0 && over > 0 {
		overshoot.Observe(over)
	}
	for i, t := range f.tries {
		t.at = now
		a.correctLocked(t.settle(float64(i) < admitted, wait, nil))
	}
}

// learnLocked takes over what Redis has answered to a call that was sent at sent
// about requests of this cost.
func (a *account) learnLocked(sent, cost, wait, state, now float64) {
	a.known, a.unsure = true, false
	received := instant(time.Now())
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
