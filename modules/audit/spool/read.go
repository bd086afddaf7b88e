package spool

import "errors"

// Reader walks through a spool for one sink.
type Reader interface {
	// Read returns up to count records behind the last, of about size bytes at
	// the most. They are valid until the next call. Where there are none it
	// returns a channel that closes when there may be some.
	Read(count, size int, into []Record) ([]Record, <-chan struct{}, error)
}

// tail reads a Log.
type tail struct {
	l   *Log
	at  uint64
	seg *segment
	off int64
	buf []byte
}

// Reader returns a reader that begins behind after.
func (l *Log) Reader(after Mark) Reader { return &tail{l: l, at: after.Seq} }

func (t *tail) Read(count, size int, into []Record) ([]Record, <-chan struct{}, error) {
	l := t.l
	for {
		l.mu.Lock()
		if t.at >= l.shown {
			defer l.mu.Unlock()
			if l.closed {
				return into[:0], nil, ErrClosed
			}
			l.watched = true
			return into[:0], l.changed, nil
		}
		seg, end := l.findLocked(t.at + 1)
		if seg == nil {
			recs := t.fromMemoryLocked(count, size, into[:0])
			if len(recs) == 0 {
				t.at = l.shown // let go of meanwhile
			}
			l.mu.Unlock()
			if len(recs) == 0 {
				continue
			}
			return recs, nil, nil
		}
		room := seg.size
		l.mu.Unlock()

		if seg != t.seg {
			t.seg, t.off = seg, headerSize
		}
		recs, err := t.scan(seg, room, end, count, size, into[:0])
		if len(recs) > 0 {
			return recs, nil, nil
		}
		if err != nil && !errors.Is(err, errGone) {
			return recs, nil, err
		}
		// What this segment should still hold is lost or has been let go; the
		// caller sees it by the sequence of what comes next.
		t.at = max(t.at, end-1)
	}
}

// findLocked returns the segment that holds next, or the first behind it, and
// the sequence at which it ends. It is nil where only memory holds next.
func (l *Log) findLocked(next uint64) (seg *segment, end uint64) {
	for i := len(l.segs) - 1; i >= 0; i-- {
		s := l.segs[i]
		end = l.durable + 1
		if i+1 < len(l.segs) {
			end = l.segs[i+1].head.first
		}
		if s.head.first <= next || i == 0 {
			if next >= end {
				return nil, 0
			}
			return s, end
		}
	}
	return nil, 0
}

// scan reads the records of seg behind t.at and before end.
func (t *tail) scan(seg *segment, room int64, end uint64, count, size int, into []Record) ([]Record, error) {
	want := max(size, 64<<10) + frameSize
	for t.off < room {
		n := int(min(int64(want), room-t.off))
		if cap(t.buf) < n {
			t.buf = make([]byte, n)
		}
		buf := t.buf[:n]
		if got, err := seg.readAt(buf, t.off); got < n {
			return into, err
		}
		last := t.off+int64(n) == room
		used, done := t.parse(seg, buf, last, end, count, size, &into)
		t.off += int64(used)
		if done || len(into) > 0 {
			return into, nil
		}
		if used == 0 {
			if last {
				t.off = room
				return into, nil
			}
			want = MaxPayload + 2*frameSize // a record larger than what was asked for
		}
	}
	return into, nil
}

// parse takes records out of buf. It returns how much of buf is used up, and
// whether the caller has what it wanted or the segment has no more.
func (t *tail) parse(seg *segment, buf []byte, last bool, end uint64, count, size int, into *[]Record) (used int, done bool) {
	for used < len(buf) {
		f := valid(buf[used:], seg.crc)
		if f == nil {
			whole := last || len(buf)-used > MaxPayload+frameSize
			if !whole {
				return used, false
			}
			skip := resync(buf[used:], seg.crc, t.at)
			switch {
			case skip >= 0:
				used += skip
			case last:
				return len(buf), true
			default: // a record may begin here and end behind buf
				return max(used+1, len(buf)-MaxPayload-frameSize), false
			}
			continue
		}
		switch s := f.seq(); {
		case s >= end:
			return used, true
		case s > t.at:
			if len(*into) == count || len(*into) > 0 && size < len(f) {
				return used, true
			}
			size -= len(f)
			*into = append(*into, record(seg.head.epoch, f))
			t.at = s
		}
		used += len(f)
	}
	return used, false
}

// fromMemoryLocked copies what the disk has not taken.
func (t *tail) fromMemoryLocked(count, size int, into []Record) []Record {
	for _, g := range t.l.held {
		for rest := g.b; g.last > t.at && len(rest) > 0; {
			f := cut(rest)
			rest = rest[len(f):]
			if f.seq() <= t.at {
				continue
			}
			if len(into) == count || len(into) > 0 && size < len(f) {
				return into
			}
			size -= len(f)
			into = append(into, record(t.l.epoch, append(frame(nil), f...)))
			t.at = f.seq()
		}
	}
	return into
}
