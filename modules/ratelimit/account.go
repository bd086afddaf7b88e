package ratelimit

import (
	"math"
	"sync"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

const (
	// alpha is the share of what is left that all gateways together may admit
	// before Redis has heard of it.
	alpha = 0.25
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
	tat    float64 // of a bucket, as last answered, on the local clock
	server float64 // the same on the server's clock
	unsure bool    // Redis may have less than server says
	used   float64 // of the other kinds

	unsent float64 // may be negative: a refund
	since  float64 // when the oldest unsent token was asked for
	held   float64 // kept for requests that other zones have not admitted yet

	epoch      int64   // of the last reset that was heard of
	denied     float64 // until when Redis is sure to refuse ...
	deniedCost float64 // ... this cost or more

	own memo // what this gateway has admitted: the ground of the fallback

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
	if strict || !a.known || gateways == 0 || a.rule.kind != bucket {
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

// nameLocked gives the account its key in Redis.
func (a *account) nameLocked(secret *ledger.Secret, z *Zone, key string) {
	if a.secret != secret {
		a.name = a.ledger.Key(secret, z.Key, key, z.name+":"+algorithms[a.rule.kind])
		a.secret, a.known = secret, false
	}
}

// forgetLocked drops what is known of the key, since an operator has reset it.
func (a *account) forgetLocked() {
	a.known, a.unsure, a.denied, a.server, a.unsent = false, false, 0, 0, 0
	a.own = memo{held: a.own.held}
	a.epoch = a.ledger.Epoch()
}

// chargeLocked notes tokens that Redis is to hear of. Negative ones are a refund.
func (a *account) chargeLocked(now, cost float64) {
	switch {
	case a.rule.kind == concurrent:
		return // leases have commands of their own
	case cost < 0:
		a.denied = 0
	case a.unsent <= 0, now < a.since: // a request may be put aside on its way here
		a.since = now
	}
	a.unsent += cost
}

// useLocked takes over the settings of the newest request.
func (a *account) useLocked(r *rule, grace float64) {
	if a.epoch != a.ledger.Epoch() {
		// Somebody was reset: ask again, rather than refuse by what was.
		a.epoch, a.denied, a.known, a.server = a.ledger.Epoch(), 0, false, 0
	}
	if !a.rule.same(r) {
		a.denied = 0 // what was certain under the old limit is not under the new one
	}
	a.rule, a.grace = r, grace
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
	a.unsent = math.Min(a.unsent, a.rule.burst)
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
	return a.queued == notQueued && a.flight == nil && a.unsent == 0 && a.held == 0 && a.own.held == 0 && len(a.waiting) == 0
}

// fallbackLocked decides without Redis: this gateway's share of the limit, from
// what was last heard on. What it admits is noted here, not for Redis.
func (a *account) fallbackLocked(now, cost float64, gateways int) (wait float64) {
	share := a.rule.share(gateways)
	if wait = share.wait(&a.own, now, cost); wait <= 0 {
		share.spend(&a.own, now, cost)
	}
	return wait
}
