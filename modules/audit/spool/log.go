package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"
)

// Options are the settings of a Log.
type Options struct {
	// Node is written into every segment.
	Node string
	// Limit is how many bytes the segments may take.
	Limit int64
	// MinFree is the part of the volume, from 0 to 1, that is left to others:
	// below it only the two highest classes are taken.
	MinFree float64
	// DropOldest makes room by giving up the oldest segment, not the newest
	// record, whatever the classes.
	DropOldest bool
	// Now tells the time of epochs and segments. Default: time.Now.
	Now func() time.Time
	// FS is where the segments live. Default: Disk.
	FS FS
}

const (
	segmentSize = 16 << 20
	// stageLimit bounds what waits in memory for the disk.
	stageLimit = 8 << 20
	// syncEvery and syncBytes bound what a power failure takes of records that
	// nobody waits for.
	syncEvery = 100 * time.Millisecond
	syncBytes = 256 << 10
	// healEvery is how often a broken disk is tried again.
	healEvery = 5 * time.Second
)

// Log is a spool that survives crashes. Append stages a record in memory; one
// goroutine writes what is staged, syncs, and only then shows it to readers.
type Log struct {
	fs    FS
	dir   string
	node  string
	epoch uint64
	crc   uint32 // of the epoch
	now   func() time.Time
	size  int64 // of a segment
	lock  io.Closer

	// Recovered tells what Open found.
	Recovered Recovery

	kick  chan struct{}
	ahead chan struct{} // asks for a spare
	quit  chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	limit   int64
	minFree float64
	oldest  bool   // is what is given up where there is no room
	seq     uint64 // last assigned
	stage   []byte // frames that the committer has not taken yet
	spare   []byte // an empty buffer to stage into next
	want    uint64 // the highest sequence that somebody waits for
	closed  bool
	tight   bool // the volume is below its minimum

	durable uint64        // the last record that is on the disk
	shown   uint64        // the last record that readers may have
	changed chan struct{} // closed when readers may have more
	watched bool          // somebody holds changed
	sick    error
	// staged closes when the records staged now are durable or cannot be; flown
	// holds the same of earlier groups. A caller wakes once, with its group.
	staged chan struct{}
	taken  uint64 // the last record that is not staged any more
	flown  []chan struct{}
	head   Hash // the chain's value at headAt
	headAt Mark
	// held are sealed frames that are not durable yet, oldest first. Their
	// bytes are the committer's; readers look at them only while sick is set.
	held      []group
	heldBytes int64
	segs      []*segment // oldest first; the last is active if active is set
	segBytes  int64
	active    *segment
	next      File // the spare, as long as it has that name; nil if there is none

	// What follows belongs to the committer.
	chain    *Chain
	safe     int64 // where in the active segment the last durable record ends
	unsynced int64
	firstAt  time.Time // when the oldest unsynced write happened
	healAt   time.Time
	freeAt   time.Time
	onSync   func(time.Duration, error)
}

// Recovery is what Open found of an earlier life.
type Recovery struct {
	// Last is the last record found; zero if there was none.
	Last Mark
	// Torn is how many bytes of a torn tail were cut off. Nobody had been told
	// that they were safe.
	Torn int64
	// Lost is how many records are missing or damaged though they had been safe.
	Lost uint64
	// Quarantined are files set aside because they could not be read.
	Quarantined []string
}

// Epoch is the number of this life of the log.
func (l *Log) Epoch() uint64 { return l.epoch }

// OnSync has observe called after each sync by the committer.
func (l *Log) OnSync(observe func(took time.Duration, err error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onSync = observe
}

// SetBounds changes the limit, the minimum of free space, and what is given up.
func (l *Log) SetBounds(limit int64, minFree float64, dropOldest bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit, l.minFree, l.oldest = limit, minFree, dropOldest
}

// classKept is the lowest class that a volume below its minimum still takes.
const classKept = uint8(Classes - 2)

// Append stages a record and returns its place. It never blocks.
func (l *Log) Append(class uint8, at time.Time, payload []byte) (Mark, error) {
	if len(payload) == 0 || len(payload) > MaxPayload {
		return Mark{}, fmt.Errorf("record of %d bytes: a payload has 1 to %d", len(payload), MaxPayload)
	}
	l.mu.Lock()
	cost := int64(len(payload)) + frameSize
	waiting := int64(len(l.stage)) + l.heldBytes + cost
	if l.closed {
		l.mu.Unlock()
		return Mark{}, ErrClosed
	}
	tight := l.tight && class < classKept
	most := share(l.limit, class)
	if l.oldest {
		most = l.limit
	}
	if tight || waiting > share(stageLimit, class) || l.segBytes+waiting > most {
		l.mu.Unlock()
		if tight || l.oldest {
			l.wake() // the committer looks whether there is room again
		}
		return Mark{}, ErrFull
	}
	l.seq++
	m := Mark{Epoch: l.epoch, Seq: l.seq}
	first := len(l.stage) == 0
	l.stage = appendFrame(l.stage, m.Seq, class, at.UnixNano(), payload)
	l.mu.Unlock()
	if first {
		l.wake()
	}
	return m, nil
}

func (l *Log) wake() {
	select {
	case l.kick <- struct{}{}:
	default: // it has been woken already
	}
}

// Sync returns nil once the record at m is on the disk. It returns at once
// where the disk is known to be broken.
func (l *Log) Sync(ctx context.Context, m Mark) error {
	for {
		l.mu.Lock()
		switch {
		case l.durable >= m.Seq:
			l.mu.Unlock()
			return nil
		case l.sick != nil:
			err := l.sick
			l.mu.Unlock()
			return fmt.Errorf("not durable: %w", err)
		case l.closed && l.want < m.Seq:
			l.mu.Unlock()
			return ErrClosed
		}
		first := l.want <= l.durable
		l.want = max(l.want, m.Seq)
		done := l.staged
		if n := len(l.flown); m.Seq <= l.taken && n > 0 {
			done = l.flown[n-1]
		}
		l.mu.Unlock()
		if first {
			l.wake()
		}
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Head returns the chain's value at the last record that readers may have.
func (l *Log) Head() (Mark, Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.headAt, l.head
}

// Stats describes the log.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Bytes:   l.segBytes + l.heldBytes + int64(len(l.stage)),
		Last:    Mark{l.epoch, l.seq},
		Durable: l.sick == nil,
	}
	if len(l.segs) > 0 {
		s.Oldest = time.Unix(0, l.segs[0].head.created)
	}
	return s
}

// Begin is the place before the oldest record that is held.
func (l *Log) Begin() Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segs) > 0 {
		return Mark{l.epoch, l.segs[0].head.first - 1}
	}
	return Mark{l.epoch, l.durable}
}

// Release removes the segments whose records all stand at or before m, and
// forgets what the disk did not take and nobody needs any more.
func (l *Log) Release(m Mark) {
	l.mu.Lock()
	for l.sick != nil && len(l.held) > 0 && l.held[0].last <= m.Seq {
		l.durable = l.held[0].last
		l.heldBytes -= int64(len(l.held[0].b))
		l.held = l.held[1:]
	}
	var gone []*segment
	for len(l.segs) > 1 && l.segs[1].head.first <= m.Seq+1 && l.segs[0] != l.active {
		gone = append(gone, l.cutLocked())
	}
	l.mu.Unlock()
	l.remove(gone)
}

// cutLocked takes the oldest segment out of the list.
func (l *Log) cutLocked() *segment {
	s := l.segs[0]
	l.segBytes -= s.size
	l.segs = l.segs[1:]
	return s
}

// shed gives up the oldest segments until another one has room. Readers see by
// the sequence of what comes next what they have not got.
func (l *Log) shed() {
	l.mu.Lock()
	var gone []*segment
	for l.oldest && len(l.segs) > 1 && l.segs[0] != l.active && l.segBytes+l.heldBytes > l.limit-l.size {
		gone = append(gone, l.cutLocked())
	}
	l.mu.Unlock()
	l.remove(gone)
}

func (l *Log) remove(gone []*segment) {
	for _, s := range gone {
		// A segment that stays because it cannot be removed is found again by
		// the next Open, and delivered twice at the worst.
		_ = s.close()
		_ = l.fs.Remove(filepath.Join(l.dir, s.name))
	}
}

// Close writes and syncs what is staged, and lets go of the folder.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	close(l.quit)
	l.done.Wait()
	l.dropSpare()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.sick
	if l.active != nil {
		_ = l.active.file.Truncate(l.active.size) // zeros end a segment as well
	}
	for _, s := range l.segs {
		err = errors.Join(err, s.close())
	}
	l.landLocked()
	close(l.staged)
	l.broadcastLocked()
	return errors.Join(err, l.lock.Close())
}

func (l *Log) broadcastLocked() {
	if l.watched {
		close(l.changed)
		l.changed, l.watched = make(chan struct{}), false
	}
}

// landLocked wakes those who wait for a group that has been taken.
func (l *Log) landLocked() {
	for _, done := range l.flown {
		close(done)
	}
	l.flown = l.flown[:0]
}
