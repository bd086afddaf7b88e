package ratelimit

import (
	"math"
	"net/http"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// ask is what one request asks of one zone, and what it was told.
type ask struct {
	zone *Zone
	rule *rule
	key  string
	cost float64

	request *http.Request
	// known says that nobody can make up the key.
	known bool

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

	charged bool    // the cost has been taken
	at      float64 // when Redis decided, by its clock; zero if it did not

	shard   *shard
	entry   *entry // good while shard is locked
	account *account
	verdict verdict
	member  string // names a lease in Redis
	stop    func() // ends the keeping of the lease
}

// admitted says that the zone lets the request through.
func (a *ask) admitted() bool { return a.wait <= 0 && !a.failed }

// passes says that the request may go on as far as this zone goes: a dry run
// decides and counts, and never refuses.
func (a *ask) passes() bool { return a.admitted() || a.zone.DryRun }

func allPass(asks []ask) bool {
	for i := range asks {
		if !asks[i].passes() {
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
		a.claim(now)
		a.wait, a.source = a.rule.wait(&a.entry.memo, now, a.cost), "local"
		admitted = admitted && a.passes()
	}
	for i := range asks {
		a := &asks[i]
		if admitted && a.admitted() {
			a.spendLocked(now, a.cost)
			a.charged = true
		}
		a.left, a.full = a.rule.credit(&a.entry.memo, now)
		a.shard.mu.Unlock()
		a.entry = nil
	}
	return admitted
}

func (a *ask) spendLocked(now, cost float64) {
	a.rule.spend(&a.entry.memo, now, cost)
	a.entry.expires = a.rule.expires(&a.entry.memo, now)
}

// adjustLocal charges further cost, or refunds it where it is negative.
func (a *ask) adjustLocal(now, cost float64) {
	a.shard.mu.Lock()
	a.entry = a.shard.claimLocked(a.key, now, a.zone.maxKeys())
	a.spendLocked(now, cost)
	a.left, a.full = a.rule.credit(&a.entry.memo, now)
	a.entry = nil
	a.shard.mu.Unlock()
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
	case a.wait > 0 && a.zone.DryRun:
		return "dry_refused"
	case a.wait > 0:
		return "refused"
	}
	return "allowed"
}

// retryAfter rounds up: a caller that waits this long and not longer is admitted.
func (a *ask) retryAfter() time.Duration {
	return time.Duration(math.Ceil(a.wait * 1000))
}
