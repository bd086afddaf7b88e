package ratelimit

import (
	"math"
	"time"
)

// await waits for the answer to one errand, or does without.
func (e *errand) await(timer *time.Timer, gateways int) {
	select {
	case <-e.try.done:
	case <-timer.C:
		timer.Reset(0) // for the errands behind this one
		if e.leave(gateways) {
			return
		}
		<-e.try.done
	}
	switch {
	case e.try.err != nil:
		for _, a := range e.asks[:e.count] {
			a.decideWithout(gateways)
			if a.charged {
				a.account.mu.Lock()
				a.account.chargeLocked(instant(time.Now()), a.cost)
				a.account.mu.Unlock()
			}
		}
	default:
		e.answered()
	}
	e.try.free()
}

// answered hands what Redis decided to the asks.
func (e *errand) answered() {
	for i, a := range e.asks[:e.count] {
		a.source, a.charged, a.at = "redis", e.try.admitted, e.try.at
		wait := e.try.wait
		if e.bundle != nil {
			wait = e.bundle.items[i].wait
		}
		switch {
		case !e.try.admitted && (e.ask != nil || wait > a.zone.graceMicros()):
			a.wait = math.Max(wait, 1)
			a.member = ""
		case e.try.admitted && a.rule.kind != bucket:
			a.account.mu.Lock()
			a.rule.spend(&a.account.own, instant(time.Now()), a.cost)
			a.account.mu.Unlock()
		}
	}
}

// leave decides without the answer and has the errand's outcome put right when
// it comes. It returns false if it has come meanwhile.
func (e *errand) leave(gateways int) bool {
	passed := true
	var before [4]memo
	for i, a := range e.asks[:e.count] {
		a.account.mu.Lock()
		before[i] = a.account.own
		a.account.mu.Unlock()
		a.decideWithout(gateways)
		passed = passed && a.admitted()
	}
	as := refused
	if passed {
		as = admitted
	}
	if e.try.leave(as) {
		for _, a := range e.asks[:e.count] {
			if !passed && a.charged {
				// Redis never hears of it, so only the fallback has to forget.
				a.account.mu.Lock()
				a.rule.share(gateways).spend(&a.account.own, instant(time.Now()), -a.cost)
				a.account.mu.Unlock()
				a.charged = false
			}
		}
		return true
	}
	for i, a := range e.asks[:e.count] {
		if a.charged {
			a.account.mu.Lock()
			if a.rule.kind == bucket {
				a.account.own.tat = before[i].tat
			} else {
				a.rule.spend(&a.account.own, instant(time.Now()), -a.cost)
			}
			a.account.mu.Unlock()
		}
		a.wait, a.failed, a.charged = 0, false, false
	}
	return false
}

// decideWithout decides as the zone says for the time that Redis does not answer.
func (a *ask) decideWithout(gateways int) {
	a.account.mu.Lock()
	defer a.account.mu.Unlock()
	a.source = "fallback"
	switch a.zone.OnError {
	case "deny":
		a.failed = true
		return
	case "allow":
		share := a.rule.share(gateways)
		share.spend(&a.account.own, instant(time.Now()), a.cost)
	default:
		a.wait = a.account.fallbackLocked(instant(time.Now()), a.cost, gateways)
	}
	a.charged = a.wait <= 0
}

// withoutRedis decides while Redis is known not to answer, or not to answer in time.
func withoutRedis(asks []ask, now float64, gateways int) bool {
	for i := range asks {
		asks[i].decideWithout(gateways)
	}
	passed := allPass(asks)
	for i := range asks {
		a := &asks[i]
		a.account.mu.Lock()
		switch {
		case a.charged && passed:
			a.account.chargeLocked(now, a.cost)
			a.account.queueLocked()
		case a.charged:
			a.rule.share(gateways).spend(&a.account.own, now, -a.cost)
			a.charged = false
		}
		a.readLocked(now)
		a.account.mu.Unlock()
	}
	return passed
}
