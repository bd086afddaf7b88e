package ratelimit

import (
	"errors"
	"math"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

const (
	// alpha is the share of what is left that all gateways together may admit
	// before Redis has heard of it.
	alpha = 0.5
	// grace is how many microseconds early a request may be admitted in
	// adaptive mode: about what a debit that travels is late.
	grace = 2000
)

// account is what this gateway knows of one key in Redis, and what Redis does
// not know yet. All tokens admitted here are in exactly one place: in tat once
// Redis has answered, in flying while they travel, in unsent before.
type account struct {
	ledger *ledger.Ledger

	mu     sync.Mutex     // guards what follows
	name   string         // the key in Redis; empty until the secret is known
	secret *ledger.Secret // what keyed the name
	rule   *rule          // of the newest request
	grace  float64

	known  bool
	tat    float64 // as last answered, on the local clock
	server float64 // the same on the server's clock
	unsure bool    // Redis may have less than server says

	unsent float64 // may be negative: a refund
	since  float64 // when the oldest unsent token was admitted
	held   float64 // kept for requests that other zones have not admitted yet

	denied     float64 // until when Redis is sure to refuse ...
	deniedCost float64 // ... this cost or more

	local float64 // TAT of the fallback

	waiting []*try
	queued  queueing
	owing   bool
	flight  *flight
	spare   flight
}

// queueing is where an account stands in its lane.
type queueing int

const (
	notQueued queueing = iota
	lazily
	urgently
)

// flight is the part of an account that is on its way to Redis.
type flight struct {
	debit, since float64
	cost         float64
	tries        []*try
	sent         float64
}

// pendingLocked is what was admitted here and is not in tat.
func (a *account) pendingLocked() float64 {
	pending := a.unsent + a.held
	if a.flight != nil {
		pending += a.flight.debit
	}
	return pending
}

// consultLocked decides what is certain without Redis. Everything else is to be asked.
func (a *account) consultLocked(now, cost float64, gateways int, strict bool) verdict {
	if now < a.denied && cost >= a.deniedCost {
		return certainNo
	}
	if strict || !a.known || gateways == 0 {
		return uncertain
	}
	left := a.rule.gcra.Left(a.tat, now)
	n := float64(gateways)
	if left >= n/alpha && a.pendingLocked()+cost <= alpha*left/n {
		return certainYes
	}
	return uncertain
}

// verdict is what an account knows without asking.
type verdict int

const (
	uncertain verdict = iota
	certainYes
	certainNo
)

// chargeLocked notes a token that was admitted without asking.
func (a *account) chargeLocked(now, cost float64) {
	if a.unsent == 0 {
		a.since = now
	}
	a.unsent += cost
}

// refundLocked gives back a token that was charged, here or in Redis.
func (a *account) refundLocked(cost float64) {
	a.unsent -= cost
	a.denied = 0
}

// useLocked takes over the settings of the newest request.
func (a *account) useLocked(r *rule, grace float64) {
	if a.rule != nil && a.rule.gcra != r.gcra {
		a.denied = 0 // what was sure under the old limit is not under the new one
	}
	a.rule, a.grace = r, grace
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
	floor := 0.0
	if a.unsure || a.ledger.Doubted(now) {
		floor = a.server
	}
	c.Reset(ledger.GCRA)
	c.Key(a.name)
	c.Number(a.rule.gcra.Every)
	c.Number(a.rule.gcra.Depth)
	c.Number(f.cost)
	c.Number(float64(len(f.tries)))
	c.Number(f.debit)
	c.Number(math.Max(f.sent-f.since, 0))
	c.Number(a.server)
	c.Number(floor)
	c.Number(a.grace)
	return true
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
		t.settle(a, false, ledger.ErrClosed)
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
		t.settle(a, false, err)
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
	if !a.known || debit <= 0 {
		return
	}
	tat := math.Max(a.tat, f.since) + a.rule.gcra.Every*debit
	a.server += tat - a.tat
	a.tat, a.unsure = tat, true
}

func (a *account) answeredLocked(f *flight, answer []int64) {
	admitted, wait, tat, now := answer[0], float64(answer[1]), float64(answer[2]), float64(answer[3])
	received := instant(time.Now())
	a.known, a.unsure, a.server, a.tat = true, false, tat, received+(tat-now)
	a.local = a.tat
	if over := (tat - now - a.rule.gcra.Depth) / a.rule.gcra.Every; f.debit > 0 && over > 0 {
		overshoot.Observe(over)
	}
	if len(f.tries) > 0 && wait > a.grace {
		// The wait ran from an instant after sent on, so this is never too long.
		a.denied, a.deniedCost = f.sent+wait-a.grace, f.cost
	}
	for i, t := range f.tries {
		t.wait = wait
		t.settle(a, int64(i) < admitted, nil)
	}
}

// queueLocked makes sure that what is left will be sent.
func (a *account) queueLocked() {
	want := notQueued
	switch {
	case a.flight != nil: // Settle comes here again
	case len(a.waiting) > 0:
		want = urgently
	case a.unsent != 0:
		want = lazily
	}
	if a.queued >= want {
		return
	}
	if a.name == "" || !a.ledger.Send(a.name, a, want == urgently) {
		a.giveUpLocked()
		return
	}
	a.queued, a.owing = want, false
}

// oweLocked has the unsent tokens sent when Redis is back: at most a bucketful,
// since a bucket cannot have given more in an outage than Redis would note.
func (a *account) oweLocked() {
	a.unsent = math.Min(a.unsent, float64(a.rule.burst))
	if a.unsent != 0 && !a.owing && a.name != "" {
		a.owing = true
		a.ledger.Owe(a.name, a)
	}
}

// idle says that nothing would be lost with the account.
func (a *account) idle() bool {
	if !a.mu.TryLock() {
		return false
	}
	defer a.mu.Unlock()
	if a.name == "" {
		return true // there is no way to tell Redis
	}
	return a.queued == notQueued && a.flight == nil && a.unsent == 0 && a.held == 0 && len(a.waiting) == 0
}

// fallbackLocked decides without Redis: this gateway's share of the limit, from
// what was last heard on.
func (a *account) fallbackLocked(now, cost float64, gateways int) (wait float64) {
	l := a.rule.share(gateways)
	start := math.Max(a.local, now)
	if wait = l.Wait(start, now, cost); wait > 0 {
		return wait
	}
	a.local = l.Spend(start, now, cost)
	return wait
}

// fallbackShare is how much more than its even share a gateway may admit while
// Redis does not answer: traffic is seldom spread evenly.
const fallbackShare = 2

func (r *rule) share(gateways int) gcra.Limit {
	share := math.Min(1, fallbackShare/math.Max(float64(gateways), 1))
	l := gcra.Limit{Every: r.gcra.Every / share, Depth: r.gcra.Depth}
	l.Depth = math.Max(l.Depth, l.Every)
	return l
}
