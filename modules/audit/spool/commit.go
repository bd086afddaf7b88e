package spool

import (
	"encoding/binary"
	"slices"
	"time"
)

// commit is the committer: it takes what is staged, writes it as one group,
// and syncs when somebody waits or enough has gathered. While it syncs, the
// next group gathers: that is all the batching there is.
func (l *Log) commit() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(l.nap())
		select {
		case <-l.kick:
		case <-timer.C:
		case <-l.quit:
			l.turn(true)
			return
		}
		l.turn(false)
	}
}

// nap is how long the committer may sleep when nobody wakes it.
func (l *Log) nap() time.Duration {
	switch {
	case !l.healAt.IsZero():
		return max(time.Millisecond, l.healAt.Sub(l.now()))
	case l.unsynced > 0:
		return max(time.Millisecond, syncEvery-l.now().Sub(l.firstAt))
	}
	return time.Hour
}

func (l *Log) turn(last bool) {
	staged, durable, needed := l.take()
	l.shed()
	var g group
	if len(staged) > 0 {
		g = l.seal(staged, durable)
	}
	if !l.healAt.IsZero() {
		if last || !l.now().Before(l.healAt) {
			l.heal()
		} else {
			l.show() // readers get from memory what the disk does not take
		}
		return
	}
	if len(staged) > 0 {
		if err := l.write(g); err != nil {
			l.broken()
			return
		}
	}
	due := l.unsynced >= syncBytes || l.now().Sub(l.firstAt) >= syncEvery
	if l.unsynced > 0 && (due || last || needed) {
		if err := l.sync(); err != nil {
			l.broken()
			return
		}
	}
	l.look()
}

// group is a run of frames that is written and synced as one.
type group struct {
	b           []byte
	first, last uint64
	before      Hash // the chain's value before first
}

// take swaps the staged frames for an empty buffer. Needed says that somebody
// waits for the disk.
func (l *Log) take() (staged []byte, durable uint64, needed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.stage) > 0 {
		staged = l.stage
		l.flown = append(l.flown, l.staged)
		l.staged, l.taken = make(chan struct{}), l.seq
		l.stage, l.spare = l.spare[:0], nil
		l.heldBytes += int64(len(staged)) // so that Append goes on counting it
	}
	return staged, l.durable, l.want > l.durable
}

// seal fills in what only the committer knows, and carries the chain on.
func (l *Log) seal(b []byte, durable uint64) group {
	g := group{b: b, first: frame(b).seq(), before: l.chain.at}
	for rest := b; len(rest) > 0; {
		f := cut(rest)
		binary.LittleEndian.PutUint32(f[28:], uint32(min(f.seq()-durable-1, 1<<32-1)))
		binary.LittleEndian.PutUint32(f[4:], frameCRC(l.crc, f))
		l.chain.Add(Mark{l.epoch, f.seq()}, f.payload())
		g.last = f.seq()
		rest = rest[len(f):]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, g)
	return g
}

// write puts a sealed group at the end of the active segment. Nothing is
// written behind a short write: the offset stays where the last whole group ends.
func (l *Log) write(g group) error {
	n := int64(len(g.b))
	if l.active.size+n > l.size && l.active.size > headerSize {
		if err := l.rotate(g); err != nil {
			return err
		}
	}
	if _, err := l.active.file.WriteAt(g.b, l.active.size); err != nil {
		return err
	}
	l.mu.Lock()
	l.active.size += n
	l.segBytes += n
	l.mu.Unlock()
	if l.unsynced == 0 {
		l.firstAt = l.now()
	}
	l.unsynced += n
	return nil
}

// sync makes everything that is written durable, and shows it to readers.
func (l *Log) sync() error {
	began := l.now()
	err := l.active.file.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.onSync != nil {
		l.onSync(l.now().Sub(began), err)
	}
	if err != nil {
		return err
	}
	l.settleLocked()
	return nil
}

// settleLocked notes that everything held is on the disk.
func (l *Log) settleLocked() {
	if n := len(l.held); n > 0 {
		l.durable = l.held[n-1].last
		l.spare = l.held[0].b[:0]
		clear(l.held)
		l.held, l.heldBytes = l.held[:0], 0
	}
	l.unsynced, l.safe = 0, l.active.size
	l.landLocked()
	l.showLocked(l.durable)
}

func (l *Log) showLocked(upTo uint64) {
	l.shown = upTo
	l.head, l.headAt = l.chain.at, Mark{l.epoch, upTo}
	l.broadcastLocked()
}

// show lets readers have what the disk does not take.
func (l *Log) show() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.landLocked() // who waits for the disk hears that it is broken
	if n := len(l.held); n > 0 {
		l.showLocked(l.held[n-1].last)
	}
}

// rotate ends the active segment and begins the next, whose first group is g.
func (l *Log) rotate(g group) error {
	if l.unsynced > 0 {
		if err := l.active.file.Sync(); err != nil {
			return err
		}
		l.mu.Lock()
		for _, old := range l.held[:len(l.held)-1] {
			l.heldBytes -= int64(len(old.b))
		}
		l.held = append(l.held[:0], g)
		l.durable = g.first - 1
		l.unsynced, l.safe = 0, l.active.size
		l.mu.Unlock()
	}
	_ = l.active.file.Truncate(l.active.size) // zeros end a segment as well
	s, err := l.begin(g.first, g.before)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.installLocked(s)
	return nil
}

func (l *Log) installLocked(s *segment) {
	l.segs = append(l.segs, s)
	l.segBytes += s.size
	l.active, l.safe = s, s.size
	l.wantSpare()
}

// broken leaves a segment that failed: after a failed sync nobody knows what
// of it is on the disk, and a second sync may say yes without writing. What is
// not durable goes into a fresh segment, at once or as soon as there can be one.
func (l *Log) broken() {
	l.mu.Lock()
	if s := l.active; s != nil {
		l.active = nil
		_ = s.file.Truncate(l.safe) // the room may be what is missing
		l.segBytes -= s.size - l.safe
		s.size = l.safe
		if s.size == headerSize {
			l.segs = l.segs[:len(l.segs)-1]
			l.segBytes -= headerSize
			_ = s.close() // begin removes it, or the next Open does
		}
	}
	l.mu.Unlock()
	l.heal()
}

// heal begins a segment behind the last durable record and writes into it all
// that is held.
func (l *Log) heal() {
	l.mu.Lock()
	held := slices.Clone(l.held)
	first, before := l.durable+1, l.chain.at
	l.mu.Unlock()
	if len(held) > 0 {
		first, before = held[0].first, held[0].before
	}
	s, err := l.begin(first, before)
	if err == nil {
		err = fill(s, held)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.sick, l.healAt = nil, time.Time{}
		l.installLocked(s)
		l.settleLocked()
		return
	}
	if s != nil {
		_ = s.close() // begin removes it, or the next Open reads what is good of it
	}
	l.sick, l.healAt = err, l.now().Add(healEvery)
	l.landLocked()
	upTo := l.durable
	if n := len(l.held); n > 0 {
		upTo = l.held[n-1].last
	}
	l.showLocked(max(l.shown, upTo))
}

// fill writes groups into a fresh segment and syncs it.
func fill(s *segment, held []group) error {
	for _, g := range held {
		if _, err := s.file.WriteAt(g.b, s.size); err != nil {
			return err
		}
		s.size += int64(len(g.b))
	}
	if len(held) == 0 {
		return nil
	}
	return s.file.Sync()
}

// look asks once a second whether the volume has room for us, and sees to the
// spare.
func (l *Log) look() {
	now := l.now()
	if now.Before(l.freeAt) {
		return
	}
	l.freeAt = now.Add(time.Second)
	l.tendSpare()
	total, left, err := l.fs.Free(l.dir)
	if err != nil || total == 0 {
		return // not to know is no reason to refuse
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tight = float64(left) < l.minFree*float64(total)
}
