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
	// done is closed when Redis has answered, or will not. Nil where nobody waits.
	done chan struct{}
}

func newMember() string { return strconv.FormatUint(rand.Uint64(), 36) }

// keepLease has the lease kept until stop is called.
func keepLease(a *account, member string, life time.Duration) (stop func()) {
	return a.ledger.Tend(a.name, &lease{account: a, member: member, forced: 1}, life/3)
}

// endLease gives the place back. If Redis does not answer it ends with its life.
// What it returns is closed when Redis has answered or will not.
func endLease(a *account, member string) <-chan struct{} {
	l := &lease{account: a, member: member, forced: -1, done: make(chan struct{})}
	if !a.ledger.Send(a.name, l, true) {
		l.end()
	}
	return l.done
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
func (l *lease) Settle([]float64, error) { l.end() }

// Reject implements ledger.Command.
func (l *lease) Reject() { l.end() }

func (l *lease) end() {
	if l.done != nil {
		close(l.done)
	}
}
