package spool

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Ring is the spool that lives in memory: it outlasts a reload and a dead sink,
// and ends with the process.
type Ring struct {
	epoch uint64

	mu     sync.Mutex // guards what follows
	limit  int64
	oldest bool // is what is given up where there is no room
	seq    uint64
	held   []Record // in order, without gaps; held[0].Seq is the oldest
	bytes  int64
	grown  chan struct{} // closed and replaced when a record arrives
	waited bool          // somebody holds grown
	closed bool
	block  []byte // what payloads are copied to, as far as it is full
}

// NewRing returns a ring that holds up to limit bytes of payload. The epoch
// must be greater than that of any earlier spool of the same node.
func NewRing(limit int64, epoch uint64) *Ring {
	return &Ring{limit: limit, epoch: epoch, grown: make(chan struct{})}
}

// recordCost is what a record takes beyond its payload.
const recordCost = 64

// blockSize is how much memory is taken at once for payloads. The records of a
// block are let go together.
const blockSize = 64 << 10

// keepLocked copies a payload. A large one has memory of its own.
func (r *Ring) keepLocked(payload []byte) []byte {
	if len(payload) > blockSize/4 {
		return append([]byte(nil), payload...)
	}
	if len(payload) > cap(r.block)-len(r.block) {
		r.block = make([]byte, 0, blockSize)
	}
	from := len(r.block)
	r.block = append(r.block, payload...)
	return r.block[from:len(r.block):len(r.block)]
}

// Append adds a record and returns its place. It never blocks.
func (r *Ring) Append(class uint8, at time.Time, payload []byte) (Mark, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return Mark{}, ErrClosed
	}
	cost := int64(len(payload)) + recordCost
	for r.oldest && len(r.held) > 0 && r.bytes+cost > r.limit {
		r.cutLocked(1)
	}
	if r.bytes+cost > share(r.limit, class) && (!r.oldest || r.bytes+cost > r.limit) {
		return Mark{}, ErrFull
	}
	r.seq++
	m := Mark{Epoch: r.epoch, Seq: r.seq}
	r.held = append(r.held, Record{Mark: m, Time: at, Class: class, Payload: r.keepLocked(payload)})
	r.bytes += cost
	if r.waited {
		r.wakeLocked()
	}
	return m, nil
}

// Sync returns at once: memory is as safe as it will ever be.
func (r *Ring) Sync(context.Context, Mark) error { return nil }

// ringTail reads a Ring.
type ringTail struct {
	r  *Ring
	at uint64
}

// Reader returns a reader that begins behind after.
func (r *Ring) Reader(after Mark) Reader {
	if after.Epoch != r.epoch {
		after.Seq = 0
	}
	return &ringTail{r, after.Seq}
}

func (t *ringTail) Read(count, size int, into []Record) ([]Record, <-chan struct{}, error) {
	r := t.r
	r.mu.Lock()
	defer r.mu.Unlock()
	into = into[:0]
	if len(r.held) == 0 || t.at >= r.seq {
		if r.closed {
			return into, nil, ErrClosed
		}
		r.waited = true
		return into, r.grown, nil
	}
	start := 0
	if first := r.held[0].Seq; t.at >= first {
		start = int(t.at - first + 1)
	}
	for _, rec := range r.held[start:] {
		if len(into) == count || len(into) > 0 && size < len(rec.Payload) {
			break
		}
		size -= len(rec.Payload)
		into = append(into, rec)
		t.at = rec.Seq
	}
	return into, nil, nil
}

// Begin is the place before the oldest record that is held.
func (r *Ring) Begin() Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Mark{r.epoch, r.seq - uint64(len(r.held))}
}

// Release lets go of everything up to and including m.
func (r *Ring) Release(m Mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Epoch != r.epoch || len(r.held) == 0 || m.Seq < r.held[0].Seq {
		return
	}
	r.cutLocked(min(int(m.Seq-r.held[0].Seq)+1, len(r.held)))
}

// SetBounds changes the limit, and what is given up.
func (r *Ring) SetBounds(limit int64, _ float64, dropOldest bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit, r.oldest = limit, dropOldest
}

// cutLocked lets go of the oldest n records.
func (r *Ring) cutLocked(n int) {
	for _, rec := range r.held[:n] {
		r.bytes -= int64(len(rec.Payload)) + recordCost
	}
	clear(r.held[:n])
	r.held = r.held[n:]
	if len(r.held) == 0 {
		r.held = nil
	}
}

// Stats describes the ring.
func (r *Ring) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Bytes: r.bytes, Last: Mark{r.epoch, r.seq}}
	if len(r.held) > 0 {
		s.Oldest = r.held[0].Time
	}
	return s
}

// Close refuses further records; those held can still be read.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.wakeLocked()
	}
	return nil
}

func (r *Ring) wakeLocked() {
	close(r.grown)
	r.grown = make(chan struct{})
	r.waited = false
}

// ErrVolatile says that there is no disk to keep something on.
var ErrVolatile = errors.New("the spool is in memory")

// Cursor knows no sink from an earlier life.
func (r *Ring) Cursor(string) Mark { return Mark{} }

// SetCursor keeps nothing.
func (r *Ring) SetCursor(string, Mark) error { return nil }

// SetAside has no file to write to.
func (r *Ring) SetAside(string, []byte) error { return ErrVolatile }
