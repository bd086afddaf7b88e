package ratelimit

import (
	"errors"
	"math"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
)

// patience is how long a request waits for Redis at most.
const patience = 25 * time.Millisecond

// takeShared charges every ask or none, in the Redis that the gateways share.
// The asks are sorted by zone name.
func (h *Handler) takeShared(v *visit, asks []ask, start time.Time) (admitted bool) {
	now := instant(start)
	gateways := h.gatewayCount()
	if !h.findAccounts(asks, start, now) {
		return withoutRedis(asks, now, gateways)
	}
	for i := range asks {
		asks[i].account.mu.Lock()
	}
	open, no := consult(asks, now, gateways)
	brown := open && !no && h.browned(asks)
	var errands []errand
	switch {
	case brown:
	case no:
		refuseCached(asks, now)
		audit(asks)
	case !open:
		admitLocally(asks, now)
	default:
		errands = h.reserve(asks, v.errands[:0])
	}
	for i := range asks {
		asks[i].account.mu.Unlock()
	}
	switch {
	case brown:
		return withoutRedis(asks, now, gateways)
	case no || !open:
		return !no
	}
	passed := h.run(errands, asks, start, gateways)
	v.trip = time.Since(start)
	return passed
}

var errUnanswered = errors.New("redis did not answer in time")

// unanswered is the error of a trip after which an ask was decided without Redis.
func unanswered(asks []ask) error {
	for i := range asks {
		if asks[i].failed || asks[i].source == "fallback" {
			return errUnanswered
		}
	}
	return nil
}

// consult asks each account what is certain: open says that Redis must be asked
// for one at least, no that one at least refuses.
func consult(asks []ask, now float64, gateways int) (open, no bool) {
	for i := range asks {
		a := &asks[i]
		a.account.useLocked(a.rule, a.zone.graceMicros())
		a.verdict = a.account.consultLocked(now, a.cost, gateways, a.zone.strict)
		no = no || a.verdict == certainNo && !a.zone.DryRun
		open = open || a.verdict == uncertain
	}
	return open, no
}

// findAccounts finds what is known of each key, and says whether Redis can be
// asked about all of them.
func (h *Handler) findAccounts(asks []ask, start time.Time, now float64) bool {
	answering := true
	for i := range asks {
		a := &asks[i]
		a.claim(now)
		a.account = a.zone.accountLocked(a.entry, now, a.rule)
		a.shard.mu.Unlock()
		a.entry = nil
		answering = h.name(a) && h.ledger.Answers(a.account.name, start, h.patience) && answering
	}
	return answering
}

// account returns what the table knows of key in Redis.
func (z *Zone) account(key string, now float64, r *rule) *account {
	s := z.table.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return z.accountLocked(s.claimLocked(key, now, z.maxKeys()), now, r)
}

func (z *Zone) accountLocked(e *entry, now float64, r *rule) *account {
	if e.account == nil || e.account.ledger != z.ledger {
		e.account = &account{ledger: z.ledger, rule: r}
	}
	e.expires = now + 1e6 + math.Max(r.gcra.Depth, r.window)
	if r.kind == fixedWindow {
		e.expires = r.at(now).end
	}
	return e.account
}

// name gives the account its key in Redis. While nobody could ask Redis for the
// secret yet, which is a matter of milliseconds after a start, it waits.
func (h *Handler) name(a *ask) bool {
	secret := h.ledger.Secret()
	if secret == nil {
		timer := time.NewTimer(h.patience)
		defer timer.Stop()
		select {
		case <-h.ledger.Asked():
		case <-timer.C:
		}
		if secret = h.ledger.Secret(); secret == nil {
			return false
		}
	}
	a.account.mu.Lock()
	defer a.account.mu.Unlock()
	a.account.nameLocked(secret, a.zone, a.key)
	return true
}

// browned says that Redis answers, but so often late that no zone here would
// rather wait.
func (h *Handler) browned(asks []ask) bool {
	for i := range asks {
		a := &asks[i]
		if a.zone.strict || !a.account.ledger.Brown(a.account.name, h.patience) {
			return false
		}
	}
	return true
}

// refuseCached refuses by what Redis is sure to say. Nothing is charged.
func refuseCached(asks []ask, now float64) {
	for i := range asks {
		a := &asks[i]
		a.source = "deny_cache"
		if a.verdict == certainNo {
			a.wait = a.account.denied - now
		}
		a.readLocked(now)
	}
}

// admitLocally charges what is certain to be there.
func admitLocally(asks []ask, now float64) {
	for i := range asks {
		a := &asks[i]
		a.source = "local"
		if a.verdict == certainNo { // of a dry run
			a.source, a.wait = "deny_cache", a.account.denied-now
		} else {
			a.charged = true
			a.account.chargeLocked(now, a.cost)
			a.rule.spend(&a.account.own, now, a.cost)
			a.account.queueLocked()
		}
		a.readLocked(now)
	}
}

// errand is one trip to Redis for some of a request's asks.
type errand struct {
	try    *try
	ask    *ask    // where it is one, of its account alone
	bundle *bundle // where they are several, or a lease
	asks   [4]*ask
	count  int
}

// reserve queues a try for each ask that only Redis can decide, and keeps the
// tokens of the others until it has.
func (h *Handler) reserve(asks []ask, errands []errand) []errand {
	for i := range asks {
		a := &asks[i]
		if a.verdict == certainYes {
			a.account.held += a.cost
		}
		if a.verdict != uncertain || taken(errands, a) {
			continue
		}
		e := errand{}
		slot := slotOf(a.account.name)
		for j := i; j < len(asks) && e.count < len(e.asks); j++ {
			// A dry run must not keep the others from being charged.
			alone := j > i && (a.zone.DryRun || asks[j].zone.DryRun)
			if b := &asks[j]; b.verdict == uncertain && !alone && slotOf(b.account.name) == slot {
				e.asks[e.count] = b
				e.count++
			}
		}
		errands = append(errands, e.queue(a, h.waits.try(a.cost)))
	}
	return errands
}

func taken(errands []errand, a *ask) bool {
	for i := range errands {
		for _, b := range errands[i].asks[:errands[i].count] {
			if a == b {
				return true
			}
		}
	}
	return false
}

// queue sends the errand on its way. The accounts are locked.
func (e errand) queue(first *ask, t *try) errand {
	e.try = t
	if e.count == 1 && first.rule.kind != concurrent {
		e.ask = first
		first.account.waiting = append(first.account.waiting, e.try)
		first.account.queueLocked()
		return e
	}
	e.bundle = &bundle{try: e.try}
	for _, a := range e.asks[:e.count] {
		if a.rule.kind == concurrent {
			a.member = newMember()
		}
		e.bundle.items = append(e.bundle.items, bundled{account: a.account, cost: a.cost, member: a.member})
	}
	// Sent after the accounts are unlocked: see run.
	return e
}

// run waits for the errands, at most for the handler's patience, and settles all asks.
func (h *Handler) run(errands []errand, asks []ask, start time.Time, gateways int) bool {
	for i := range errands {
		if e := &errands[i]; e.bundle != nil && !h.ledger.Send(e.asks[0].account.name, e.bundle, true) {
			e.bundle.Reject()
		}
	}
	timer := h.waits.timer(h.patience)
	for i := range errands {
		errands[i].await(timer, gateways)
	}
	clear(errands)
	h.waits.stop(timer)
	end := time.Now()
	waitSeconds.Observe(end.Sub(start).Seconds())
	passed := allPass(asks)
	now := instant(end)
	for i := range asks {
		asks[i].conclude(passed, now, gateways)
	}
	return passed
}

// conclude charges or refunds one ask once all are decided.
func (a *ask) conclude(passed bool, now float64, gateways int) {
	acc := a.account
	acc.mu.Lock()
	defer acc.mu.Unlock()
	switch {
	case a.verdict == certainNo: // of a dry run
		a.source, a.wait = "deny_cache", acc.denied-now
	case a.verdict == certainYes:
		a.source = "local"
		acc.held -= a.cost
		if passed {
			a.charged = true
			acc.chargeLocked(now, a.cost)
			a.rule.spend(&acc.own, now, a.cost)
		}
	case a.charged && !passed:
		a.giveBackLocked(now, gateways)
	}
	if a.member != "" && a.charged {
		a.stop = keepLease(acc, a.member, a.zone.lease())
	}
	acc.queueLocked()
	a.readLocked(now)
}

// giveBackLocked undoes what the ask was charged.
func (a *ask) giveBackLocked(now float64, gateways int) {
	a.charged = false
	if a.source == "fallback" {
		a.rule.share(gateways).spend(&a.account.own, now, -a.cost)
	} else if a.rule.kind != bucket {
		a.rule.spend(&a.account.own, now, -a.cost)
	}
	a.account.chargeLocked(now, -a.cost)
	if a.member != "" {
		endLease(a.account, a.member)
		a.member = ""
	}
}

// readLocked reads the account's credit for the answer.
func (a *ask) readLocked(now float64) {
	acc := a.account
	switch {
	case a.source == "fallback":
		a.left, a.full = a.rule.share(a.zone.gatewayCount()).credit(&acc.own, now)
	case !acc.known:
		a.left = a.rule.quota()
	case a.rule.kind == bucket:
		tat := acc.tat + acc.pendingLocked()*a.rule.gcra.Every
		a.left = max(int64(math.Floor(a.rule.gcra.Left(tat, now))), 0)
		a.full = gcra.Full(tat, now)
	default:
		_, a.full = a.rule.credit(&acc.own, now)
		a.left = max(int64(a.rule.limit-acc.used), 0)
	}
}
