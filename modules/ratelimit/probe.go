package ratelimit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// probe asks Redis about a key and charges nothing.
type probe struct {
	account *account
	cost    float64
	decided float64 // when a request was refused that this checks
	done    chan<- probed
}

type probed struct {
	wait, state, now float64
	err              error
}

// auditOne is how many refusals there are for one that is checked.
const auditOne = 1000

// audit has one in a thousand of the refusals that Redis was not asked about
// checked: what they promise is measured on the live traffic.
func audit(asks []ask) {
	if rand.Uint32N(auditOne) != 0 {
		return
	}
	for i := range asks {
		if a := &asks[i]; a.wait > 0 && a.source != "redis" && a.rule.kind != concurrent {
			p := &probe{account: a.account, cost: a.cost, decided: instant(time.Now())}
			a.account.ledger.Send(a.account.name, p, false)
		}
	}
}

// Fill implements ledger.Command.
func (p *probe) Fill(c *ledger.Call) bool {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	c.Reset(ledger.Group)
	p.account.itemLocked(c, time.Now(), p.cost, 0, 0, "")
	return true
}

// Settle implements ledger.Command.
func (p *probe) Settle(answer []float64, err error) {
	if p.done != nil {
		if err != nil {
			p.done <- probed{err: err}
		} else {
			p.done <- probed{answer[2], answer[3], answer[0], nil}
		}
		return
	}
	if err != nil {
		return
	}
	audited.Inc()
	p.account.mu.Lock()
	early := p.account.grace
	p.account.mu.Unlock()
	// At the refusal the wait was at least longer by the time since then.
	if answer[2]+instant(time.Now())-p.decided <= early {
		falsePositives.Inc()
	}
}

// Reject implements ledger.Command.
func (p *probe) Reject() { p.Settle(nil, ledger.ErrClosed) }

var errNoAnswer = errors.New("redis does not answer")

// peek asks Redis what is left of one key.
func (a *account) peek(ctx context.Context) (probed, error) {
	done := make(chan probed, 1)
	if !a.ledger.Send(a.name, &probe{account: a, cost: 1, done: done}, true) {
		return probed{}, errNoAnswer
	}
	select {
	case <-ctx.Done():
		return probed{}, errNoAnswer
	case answer := <-done:
		return answer, answer.err
	}
}
