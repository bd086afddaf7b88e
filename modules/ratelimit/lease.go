package ratelimit

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// lease is a place that a running request holds in Redis. It ends with the
// request; should the gateway die, with its life.
type lease struct {
	account *account
	member  string
	forced  float64 // 1 keeps it, -1 ends it
}

func newMember() string { return strconv.FormatUint(rand.Uint64(), 36) }

// keepLease has the lease kept until stop is called.
func keepLease(a *account, member string, life time.Duration) (stop func()) {
	return a.ledger.Tend(a.name, &lease{a, member, 1}, life/3)
}

// endLease gives the place back. If Redis does not answer it ends with its life.
func endLease(a *account, member string) {
	a.ledger.Send(a.name, &lease{a, member, -1}, true)
}

// Fill implements ledger.Command.
func (l *lease) Fill(c *ledger.Call) bool {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	c.Reset(ledger.Group)
	l.account.itemLocked(c, time.Now(), 0, 0, l.forced, l.member)
	return true
}

// Settle implements ledger.Command.
func (*lease) Settle([]int64, error) {}

// Reject implements ledger.Command.
func (*lease) Reject() {}
