package ratelimit

import (
	"cmp"
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
	// left and full are the key's credit after the decision, in requests, and
	// the microseconds until the key is as good as new.
	left int64
	full float64

	shard *shard
	entry *entry // good while shard is locked
}

// takeLocal charges every ask or none. The asks are sorted by zone name.
func takeLocal(asks []ask, now float64) (admitted bool) {
	admitted = true
	for i := range asks {
		a := &asks[i]
		a.shard = a.zone.table.shard(a.key)
		a.shard.mu.Lock()
		a.entry = a.shard.claimLocked(a.key, now, cmp.Or(a.zone.MaxKeys, defaultMaxKeys))
		a.wait = a.rule.wait(a.entry, now, a.cost)
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

func (a *ask) decision() exchange.Zone {
	d := exchange.Zone{
		Name: a.zone.name, Result: "allowed", Source: "local",
		Limit: a.rule.quota(), Remaining: a.left,
	}
	if a.wait > 0 {
		d.Result, d.RetryAfter = "refused", a.retryAfter()
	}
	return d
}

// retryAfter rounds up: a caller that waits this long and not longer is admitted.
func (a *ask) retryAfter() time.Duration {
	return time.Duration(a.wait*1000) + 1
}
