package wire

import (
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"
)

// checkEvery is how often idle connections are looked at: those that the
// upstream has closed would else hold a descriptor until they are too old.
const checkEvery = 15 * time.Second

// Pool keeps idle connections. Several transports may share one, so that a new
// configuration goes on with the connections of the old one.
type Pool struct {
	perHost int
	ttl     time.Duration // zero: no limit

	mu     sync.Mutex
	idle   map[spot][]*conn // the one used last at the end
	timer  *time.Timer      // nil while nothing is idle
	closed bool
	fresh  []*conn     // with a request whose context nobody watches yet
	round  uint        // counts the looks at fresh
	rounds *time.Timer // nil while nothing is fresh
	config *tls.Config // the last that adopt has numbered
	number int

	spoken atomic.Pointer[map[string]bool] // hosts that chose HTTP/1.1; never changed in place
}

// spot is what connections must have in common to stand in for each other.
type spot struct {
	host string
	tls  int // the number of a TLS configuration; zero: clear text
}

// NewPool returns a pool that keeps up to perHost connections a host, each for
// ttl at most.
func NewPool(perHost int, ttl time.Duration) *Pool {
	return &Pool{perHost: perHost, ttl: ttl, idle: map[spot][]*conn{}}
}

// take returns the connection that was used last, if there is one fit for use.
// Where the look at it may be late, the first Write has it; errStale says that
// nothing was sent.
func (p *Pool) take(at spot, now time.Time, late bool) *conn {
	for {
		c := p.pop(at)
		if c == nil {
			return nil
		}
		c.unseen = late && c.turn != nil
		if p.young(c, now) && (c.unseen || !c.stale()) {
			c.reused = true
			return c
		}
		_ = c.Close()
	}
}

func (p *Pool) pop(at spot) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[at]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	p.idle[at] = list[:len(list)-1]
	return c
}

func (p *Pool) young(c *conn, now time.Time) bool {
	return p.ttl == 0 || now.Sub(c.since) < p.ttl
}

func (p *Pool) put(c *conn) {
	c.since, c.uploaded, c.call = time.Now(), nil, call{}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[c.spot]
	if p.closed || len(list) >= p.perHost {
		_ = c.Close()
		return
	}
	p.idle[c.spot] = append(list, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(p.period(), p.sweep)
	}
}

func (p *Pool) period() time.Duration {
	if p.ttl == 0 {
		return checkEvery
	}
	return min(p.ttl, checkEvery)
}

// sweep closes what is too old or was closed by the upstream.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, left := time.Now(), 0
	for at, list := range p.idle {
		kept := list[:0]
		for _, c := range list {
			if p.young(c, now) && !c.stale() {
				kept = append(kept, c)
			} else {
				_ = c.Close()
			}
		}
		clear(list[len(kept):])
		if p.idle[at] = kept; len(kept) == 0 {
			delete(p.idle, at)
		}
		left += len(kept)
	}
	p.timer = nil
	if left > 0 && !p.closed {
		p.timer = time.AfterFunc(p.period(), p.sweep)
	}
}

// Close closes what is idle, and what is given back later.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, list := range p.idle {
		for _, c := range list {
			_ = c.Close()
		}
	}
	clear(p.idle)
	if p.timer != nil {
		p.timer.Stop()
	}
}
