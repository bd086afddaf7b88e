package ledger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	workers   = 2
	batchMost = 128
	// lazily is how long a debit may wait for company.
	lazily = time.Millisecond
)

// Command is one script call that a lane sends when its turn comes.
type Command interface {
	// Fill writes the call, or returns false if there is nothing to send.
	Fill(*Call) bool
	// Settle hears the answer, or an error that is one of the errors below.
	// It must not block, nor keep the answer.
	Settle(answer []float64, err error)
	// Reject hears that the command will not be filled: the shard does not answer.
	Reject()
}

var (
	// ErrClosed says that the lane takes no commands: nothing was sent.
	ErrClosed = errors.New("redis does not answer")
	// ErrNotExecuted says that the server did not execute the command.
	ErrNotExecuted = errors.New("not executed")
	// ErrAmbiguous says that nobody knows whether the command was executed.
	ErrAmbiguous = errors.New("perhaps executed")
)

// lane is the way to one shard.
type lane struct {
	shard string
	// client speaks to the shard; cluster, if not nil, knows where a slot went.
	client  *redis.Client
	cluster *redis.ClusterClient
	// changed hears of every turn in what the shard is good for.
	changed func(Change)

	mu     sync.Mutex // guards what follows
	urgent []Command
	lazy   []Command
	due    bool // the lazy ones have waited long enough
	timer  *time.Timer
	closed bool

	wake    chan struct{}
	quit    chan struct{}
	running sync.WaitGroup

	trouble breaker
	clock   clock
	busy    [workers]atomic.Int64 // when the batch in flight was sent, or zero
}

func newLane(shard string, client *redis.Client, cluster *redis.ClusterClient, changed func(Change)) *lane {
	l := &lane{
		shard: shard, client: client, cluster: cluster, changed: changed,
		wake: make(chan struct{}, workers), quit: make(chan struct{}),
	}
	l.timer = time.AfterFunc(time.Hour, l.ripen)
	l.timer.Stop()
	for i := range workers {
		l.running.Go(func() { l.work(i) })
	}
	return l
}

// send queues c. An urgent one goes out at once, another within a millisecond.
// It returns false where the shard is known not to answer.
func (l *lane) send(c Command, urgent bool) bool {
	l.mu.Lock()
	if l.closed || l.trouble.open.Load() {
		l.mu.Unlock()
		return false
	}
	if urgent {
		l.urgent = append(l.urgent, c)
	} else {
		l.lazy = append(l.lazy, c)
		if len(l.lazy) == 1 {
			l.timer.Reset(lazily)
		}
		urgent = len(l.lazy) >= batchMost
		l.due = l.due || urgent
	}
	l.mu.Unlock()
	if urgent {
		l.signal()
	}
	return true
}

func (l *lane) ripen() {
	l.mu.Lock()
	l.due = true
	l.mu.Unlock()
	l.signal()
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // both workers are to wake already
	}
}

// take returns up to a batch of commands: all that are urgent first, then those
// that can wait, since a trip is made anyway.
func (l *lane) take(batch []Command) []Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.urgent) == 0 && !l.due {
		return batch
	}
	n := min(len(l.urgent), batchMost)
	batch = append(batch, l.urgent[:n]...)
	l.urgent = drop(l.urgent, n)
	n = min(len(l.lazy), batchMost-n)
	batch = append(batch, l.lazy[:n]...)
	l.lazy = drop(l.lazy, n)
	if len(l.lazy) == 0 {
		l.due = false
		l.timer.Stop()
	}
	if len(l.urgent) > 0 || l.due {
		l.signal()
	}
	return batch
}

// drop removes the first n and lets go of what they pointed to.
func drop(list []Command, n int) []Command {
	rest := copy(list, list[n:])
	clear(list[rest:])
	return list[:rest]
}

func (l *lane) work(id int) {
	w := &worker{lane: l, id: id, pipe: l.client.Pipeline()}
	for {
		select {
		case <-l.quit:
			return
		case <-l.wake:
		}
		if l.trouble.open.Load() {
			l.recover(id)
			continue
		}
		for {
			w.batch = l.take(w.batch[:0])
			if len(w.batch) == 0 {
				break
			}
			l.busy[id].Store(time.Now().UnixNano())
			w.round()
			l.busy[id].Store(0)
		}
	}
}

// answers says whether a command sent now may be answered within budget: not
// while every worker waits for an answer for longer than that.
func (l *lane) answers(now time.Time, budget time.Duration) bool {
	if l.trouble.open.Load() {
		return false
	}
	for i := range l.busy {
		if since := l.busy[i].Load(); since == 0 || now.UnixNano()-since < int64(budget) {
			return true
		}
	}
	return false
}

// fail opens the breaker because of err and gives back all that is queued.
func (l *lane) fail(err error) {
	l.mu.Lock()
	first := l.trouble.trip()
	queued := append(l.urgent, l.lazy...)
	l.urgent, l.lazy, l.due = nil, nil, false
	l.mu.Unlock()
	for _, c := range queued {
		c.Reject()
	}
	if first {
		l.changed(Change{l.shard, Open, err})
	}
	l.signal()
}

// recover asks the shard until it answers three times, quickly. Only the
// worker that got hold of the turn asks.
func (l *lane) recover(id int) {
	if !l.trouble.probing.CompareAndSwap(false, true) {
		return
	}
	defer l.trouble.probing.Store(false)
	for delay := firstProbe; l.trouble.open.Load(); delay = min(2*delay, lastProbe) {
		select {
		case <-l.quit:
			return
		case <-time.After(jittered(delay)):
		}
		if !l.probe() {
			continue
		}
		l.trouble.open.Store(false)
		l.changed(Change{l.shard, Closed, nil})
		l.signal()
	}
}

func (l *lane) probe() bool {
	for range 3 {
		began := time.Now()
		// A primary that lost its place would answer a PING.
		role, err := l.client.Do(context.Background(), "ROLE").Slice()
		if isPermission(err) {
			err = l.client.Ping(context.Background()).Err()
		} else if err == nil && len(role) > 0 && role[0] != "master" {
			return false
		}
		if err != nil || time.Since(began) > slow {
			return false
		}
	}
	return true
}

// close ends the workers and gives back what is queued. It waits for batches in
// flight, which the client's timeouts bound.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	queued := append(l.urgent, l.lazy...)
	l.urgent, l.lazy = nil, nil
	l.timer.Stop()
	l.mu.Unlock()
	close(l.quit)
	l.running.Wait()
	for _, c := range queued {
		c.Reject()
	}
	breakerState.DeleteLabelValues(l.shard)
	brownoutState.DeleteLabelValues(l.shard)
}
