package ratelimit

import (
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// ask is what one request asks of one zone, and what it was told.
type ask struct {
	zone *Zone
	rule *rule
	key  string
	cost float64

	// wait is how many microseconds the request must wait; it is admissible
	// where that is not above zero.
	wait float64
	// failed says that nobody could decide and the zone does not let pass then.
	failed bool
	// source is who decided: `local`, `redis`, `deny_cache` or `fallback`.
	source string
	// left and full are the key's credit after the decision, in requests, and
	// the microseconds until the key is as good as new.
	left int64
	full float64

	shard   *shard
	entry   *entry // good while shard is locked
	account *account
	verdict verdict
	try     *try
}

func (a *ask) admitted() bool { return a.wait <= 0 && !a.failed }

func allAdmitted(asks []ask) bool {
	for i := range asks {
		if !asks[i].admitted() {
			return false
		}
	}
	return true
}

// takeLocal charges every ask or none. The asks are sorted by zone name.
func takeLocal(asks []ask, now float64) (admitted bool) {
	admitted = true
	for i := range asks {
		a := &asks[i]
		a.shard = a.zone.table.shard(a.key)
		a.shard.mu.Lock()
		a.entry = a.shard.claimLocked(a.key, now, a.zone.maxKeys())
		a.wait, a.source = a.rule.wait(a.entry, now, a.cost), "local"
		admitted = admitted && a.wait <= 0
	}
	for i := range asks {
		a := &asks[i]
		if admitted {
			a.rule.spend(a.entry, now, a.cost)
		}
		a.left, a.full = a.rule.credit(a.entry, now)
		a.shard.mu.Unlock()
		a.entry = nil
	}
	return admitted
}

// refundLocal undoes takeLocal, where zones in Redis did not admit.
func refundLocal(asks []ask, now float64) {
	for i := range asks {
		a := &asks[i]
		a.shard.mu.Lock()
		e := a.shard.claimLocked(a.key, now, a.zone.maxKeys())
		a.rule.refund(e, a.cost)
		a.left, a.full = a.rule.credit(e, now)
		a.shard.mu.Unlock()
	}
}

func (a *ask) decision() exchange.Zone {
	d := exchange.Zone{
		Name: a.zone.name, Result: a.result(), Source: a.source,
		Limit: a.rule.quota(), Remaining: a.left,
	}
	if a.wait > 0 {
		d.RetryAfter = a.retryAfter()
	}
	return d
}

func (a *ask) result() string {
	switch {
	case a.failed:
		return "error"
	case a.wait > 0:
		return "refused"
	}
	return "allowed"
}

// retryAfter rounds up: a caller that waits this long and not longer is admitted.
func (a *ask) retryAfter() time.Duration {
	return time.Duration(a.wait*1000) + 1
}
