package handover

import (
	"sync"
	"time"
)

// moment is how often the requests that last are told from those that do not.
const moment = 5 * time.Millisecond

// patience has those who read ahead wait for one or two moments before they
// ask the kernel: most requests are over by then, and to ask for what is not
// there costs as much as to read a request.
type patience struct {
	mu      sync.Mutex // guards the rest, and every conn's at and round
	waiting []*conn
	round   uint
	rounds  *time.Timer // nil while nobody waits
}

// ahead is the one patience of the process.
var ahead patience

func (p *patience) enter(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.at, c.round = len(p.waiting), p.round
	p.waiting = append(p.waiting, c)
	if p.rounds == nil {
		p.rounds = time.AfterFunc(moment, p.look)
	}
}

// leave takes c out, where look has not.
func (p *patience) leave(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.at < len(p.waiting) && p.waiting[c.at] == c {
		p.leaveLocked(c)
	}
}

func (p *patience) leaveLocked(c *conn) {
	last := len(p.waiting) - 1
	other := p.waiting[last]
	p.waiting[c.at], other.at = other, c.at
	p.waiting[last], p.waiting = nil, p.waiting[:last]
}

// look lets go whoever has waited for a moment. One that comes again meanwhile
// is let go at once, which costs it nothing but its saving.
func (p *patience) look() {
	var over []*conn
	p.mu.Lock()
	for i := len(p.waiting) - 1; i >= 0; i-- {
		if c := p.waiting[i]; c.round != p.round {
			over = append(over, c)
			p.leaveLocked(c)
		}
	}
	p.round++
	if len(p.waiting) == 0 {
		p.rounds = nil
	} else {
		p.rounds.Reset(moment)
	}
	p.mu.Unlock()
	for _, c := range over {
		c.mu.Lock()
		c.wakeLocked()
		c.mu.Unlock()
	}
}
