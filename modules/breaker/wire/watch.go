package wire

import (
	"context"
	"time"
)

// moment is how often the requests that last are told from those that do not.
const moment = 5 * time.Millisecond

// watchLater has c aborted when ctx ends, from one or two moments from now on.
// To be told of the end of a context costs as much as to write a request, and
// most are answered sooner than that. unwatch ends it.
func (p *Pool) watchLater(c *conn, ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.ctx, c.at, c.round = ctx, len(p.fresh), p.round
	p.fresh = append(p.fresh, c)
	if p.rounds == nil {
		p.rounds = time.AfterFunc(moment, p.watch)
	}
}

// watch sees to those that have lasted for a moment.
func (p *Pool) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.fresh) - 1; i >= 0; i-- {
		if c := p.fresh[i]; c.round != p.round {
			c.stop = context.AfterFunc(c.ctx, c.abort)
			p.leaveFreshLocked(c)
		}
	}
	p.round++
	if len(p.fresh) == 0 {
		p.rounds = nil
		return
	}
	p.rounds.Reset(moment)
}

// leaveFreshLocked takes c from the fresh.
func (p *Pool) leaveFreshLocked(c *conn) {
	last := len(p.fresh) - 1
	other := p.fresh[last]
	p.fresh[c.at], other.at = other, c.at
	p.fresh[last], p.fresh = nil, p.fresh[:last]
	c.ctx, c.at = nil, -1
}

// unwatch says that c may not be aborted any more. It says no where it has been.
func (p *Pool) unwatch(c *conn) bool {
	p.mu.Lock()
	if c.at >= 0 {
		p.leaveFreshLocked(c)
	}
	stop := c.stop
	c.stop = nil
	p.mu.Unlock()
	return stop == nil || stop()
}
