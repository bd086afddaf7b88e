package ratelimit

import (
	"errors"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// bundle is what one request asks of several accounts of one caller, or of a
// lease: one call charges all or none. Accounts of one caller lie in one slot.
type bundle struct {
	items []bundled
	try   *try
	sent  float64
}

type bundled struct {
	account *account
	cost    float64
	member  string
	wait    float64 // as answered
}

// Fill implements ledger.Command.
func (b *bundle) Fill(c *ledger.Call) bool {
	if b.try.state.Load() == refused {
		b.try.free()
		return false
	}
	now := time.Now()
	b.sent = instant(now)
	c.Reset(ledger.Group)
	for _, it := range b.items {
		it.account.mu.Lock()
		it.account.itemLocked(c, now, it.cost, 1, 0, it.member)
		it.account.mu.Unlock()
	}
	return true
}

// Settle implements ledger.Command.
func (b *bundle) Settle(answer []float64, err error) {
	yes := false
	if err == nil {
		yes, b.try.at = answer[1] > 0, answer[0]
		for i := range b.items {
			it := &b.items[i]
			it.wait = answer[2+2*i]
			it.account.mu.Lock()
			it.account.learnLocked(b.sent, it.cost, it.wait, answer[3+2*i], answer[0])
			it.account.mu.Unlock()
		}
	}
	// The request may go on, and take the bundle's waits, as soon as it is told.
	items := b.items
	charge := b.try.settle(yes, 0, err)
	if charge == 0 || errors.Is(err, ledger.ErrAmbiguous) {
		return
	}
	for _, it := range items {
		it.account.mu.Lock()
		if charge > 0 {
			it.account.correctLocked(it.cost)
		} else {
			it.account.correctLocked(-it.cost)
		}
		it.account.queueLocked()
		it.account.mu.Unlock()
		if it.member != "" && charge < 0 {
			endLease(it.account, it.member)
		}
	}
}

// Reject implements ledger.Command.
func (b *bundle) Reject() { b.Settle(nil, ledger.ErrClosed) }

// slotOf returns the part of a key that says where it lies.
func slotOf(name string) string {
	slot, _, _ := strings.Cut(name, "}")
	return slot
}
