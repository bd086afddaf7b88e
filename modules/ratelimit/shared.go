package ratelimit

import (
	"math"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
)

// patience is how long a request waits for Redis at most.
const patience = 25 * time.Millisecond

var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// takeShared charges every ask or none, in the Redis that the gateways share.
// The asks are sorted by zone name.
func (h *Handler) takeShared(asks []ask, start time.Time) (admitted bool) {
	now := instant(start)
	gateways := h.gatewayCount()
	if !h.findAccounts(asks, start, now) {
		return h.withoutRedis(asks, now, gateways)
	}
	for i := range asks {
		asks[i].account.mu.Lock()
	}
	open, refused := false, false
	for i := range asks {
		a := &asks[i]
		a.account.useLocked(a.rule, a.zone.graceMicros())
		a.verdict = a.account.consultLocked(now, a.cost, gateways, a.zone.strict)
		refused = refused || a.verdict == certainNo
		open = open || a.verdict == uncertain
	}
	brown := open && !refused && browned(asks)
	switch {
	case brown:
	case refused:
		refuseCached(asks, now)
	case !open:
		admitLocally(asks, now)
	default:
		reserve(asks)
	}
	for i := range asks {
		asks[i].account.mu.Unlock()
	}
	if brown {
		return h.withoutRedis(asks, now, gateways)
	}
	if refused || !open {
		return !refused
	}
	return h.askRedis(asks, start, gateways)
}

// findAccounts finds what is known of each key, and says whether Redis can be
// asked about all of them.
func (h *Handler) findAccounts(asks []ask, start time.Time, now float64) bool {
	answering := true
	for i := range asks {
		a := &asks[i]
		a.account = a.zone.account(a.key, now, a.rule)
		a.account.mu.Lock()
		named := h.nameLocked(a)
		a.account.mu.Unlock()
		answering = answering && named && h.ledger.Answers(a.account.name, start, h.patience)
	}
	return answering
}

// account returns what the table knows of key in Redis.
func (z *Zone) account(key string, now float64, r *rule) *account {
	s := z.table.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.claimLocked(key, now, z.maxKeys())
	if e.account == nil || e.account.ledger != z.ledger {
		e.account = &account{ledger: z.ledger, rule: r}
	}
	e.expires = now + r.gcra.Depth + 1e6
	return e.account
}

// nameLocked gives the account its key in Redis. While nobody could ask Redis for
// the secret yet, which is a matter of milliseconds after a start, it waits.
func (h *Handler) nameLocked(a *ask) bool {
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
	if acc := a.account; acc.secret != secret {
		acc.name = h.ledger.Key(secret, a.zone.Key, a.key, a.zone.name)
		acc.secret, acc.known = secret, false
	}
	return true
}

// browned says that Redis answers, but so often late that no zone here would
// rather wait.
func browned(asks []ask) bool {
	for i := range asks {
		a := &asks[i]
		if a.zone.strict || !a.account.ledger.Brown(a.account.name) {
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
		a.account.chargeLocked(now, a.cost)
		a.account.queueLocked()
		a.readLocked(now)
	}
}

// reserve queues a try for each ask that only Redis can decide, and keeps the
// tokens of the others until it has.
func reserve(asks []ask) {
	for i := range asks {
		a := &asks[i]
		if a.verdict == certainYes {
			a.account.held += a.cost
			continue
		}
		a.try = newTry(a.cost)
		a.account.waiting = append(a.account.waiting, a.try)
		a.account.queueLocked()
	}
}

// askRedis waits for the tries, at most for the budget, and then settles all asks.
func (h *Handler) askRedis(asks []ask, start time.Time, gateways int) bool {
	timer := timers.Get().(*time.Timer)
	timer.Reset(h.patience)
	for i := range asks {
		if a := &asks[i]; a.try != nil {
			a.await(timer, gateways)
		}
	}
	timer.Stop()
	timers.Put(timer)
	end := time.Now()
	waits.Observe(end.Sub(start).Seconds())
	admitted := allAdmitted(asks)
	now := instant(end)
	for i := range asks {
		a := &asks[i]
		a.account.mu.Lock()
		switch {
		case a.verdict == certainYes:
			a.source = "local"
			a.account.held -= a.cost
			if admitted {
				a.account.chargeLocked(now, a.cost)
			}
		case a.admitted() && !admitted:
			a.account.refundLocked(a.cost)
		}
		a.account.queueLocked()
		a.readLocked(now)
		a.account.mu.Unlock()
	}
	return admitted
}

// await waits for the answer to one try, or does without.
func (a *ask) await(timer *time.Timer, gateways int) {
	t := a.try
	a.try = nil
	select {
	case <-t.done:
	case <-timer.C:
		timer.Reset(0) // for the asks behind this one
		a.decideWithout(gateways, func() bool {
			as := refused
			if a.admitted() {
				as = admitted
			}
			return t.leave(as)
		})
		if a.source == "fallback" {
			return
		}
		<-t.done
	}
	switch {
	case t.err != nil:
		a.decideWithout(gateways, func() bool {
			if a.admitted() {
				a.account.chargeLocked(instant(time.Now()), a.cost)
				a.account.queueLocked()
			}
			return true
		})
	default:
		a.source = "redis"
		if !t.admitted {
			a.wait = math.Max(t.wait, 1)
		}
	}
	tries.Put(t)
}

// decideWithout decides as the zone says for the time that Redis does not
// answer. Commit hears the decision and may say that it comes too late.
func (a *ask) decideWithout(gateways int, commit func() bool) {
	a.account.mu.Lock()
	defer a.account.mu.Unlock()
	now := instant(time.Now())
	before := a.account.local
	switch a.zone.OnError {
	case "deny":
		a.failed = true
	case "allow":
	default:
		a.wait = a.account.fallbackLocked(now, a.cost, gateways)
	}
	if commit() {
		a.source = "fallback"
		return
	}
	a.account.local, a.wait, a.failed = before, 0, false
}

// withoutRedis decides while Redis is known not to answer.
func (h *Handler) withoutRedis(asks []ask, now float64, gateways int) bool {
	for i := range asks {
		a := &asks[i]
		a.decideWithout(gateways, func() bool { return true })
	}
	admitted := allAdmitted(asks)
	for i := range asks {
		a := &asks[i]
		a.account.mu.Lock()
		switch {
		case a.admitted() && admitted:
			a.account.chargeLocked(now, a.cost)
			a.account.queueLocked()
		case a.admitted():
			a.account.local = a.rule.share(gateways).Refund(a.account.local, a.cost)
		}
		a.readLocked(now)
		a.account.mu.Unlock()
	}
	return admitted
}

// readLocked reads the account's credit for the answer.
func (a *ask) readLocked(now float64) {
	acc := a.account
	if a.source == "fallback" {
		l := a.rule.share(a.zone.gatewayCount())
		a.left = max(int64(math.Floor(l.Left(acc.local, now))), 0)
		a.full = gcra.Full(acc.local, now)
		return
	}
	if !acc.known {
		a.left = a.rule.quota()
		return
	}
	tat := acc.tat + acc.pendingLocked()*a.rule.gcra.Every
	a.left = max(int64(math.Floor(a.rule.gcra.Left(tat, now))), 0)
	a.full = gcra.Full(tat, now)
}
