package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"time"
)

// Open takes a folder and begins a new epoch in it. It reads the newest
// segment whole; a torn tail is cut off, damage is passed over, and neither
// keeps the log from opening. A folder that another process holds does, and so
// does a format that this program does not know.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{
		fs: o.FS, dir: dir, node: o.Node, now: o.Now, limit: o.Limit, minFree: o.MinFree, oldest: o.DropOldest,
		kick: make(chan struct{}, 1), ahead: make(chan struct{}, 1), quit: make(chan struct{}), changed: make(chan struct{}), staged: make(chan struct{}),
	}
	if l.fs == nil {
		l.fs = Disk{}
	}
	if l.now == nil {
		l.now = time.Now
	}
	if len(o.Node) == 0 || len(o.Node) > maxNode {
		return nil, fmt.Errorf("node name of %d bytes: it has 1 to %d", len(o.Node), maxNode)
	}
	// Sixteen segments at least: what can be let go is let go in segments.
	l.size = min(segmentSize, max(64<<10, o.Limit/16))
	if err := l.fs.Make(dir); err != nil {
		return nil, err
	}
	lock, err := l.fs.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("lock audit spool: %w", err)
	}
	l.lock = lock
	_ = l.fs.Remove(filepath.Join(dir, spareName)) // left by a crash; reserve tries again
	if err := l.recover(); err != nil {
		for _, s := range l.segs {
			_ = s.close()
		}
		return nil, errors.Join(err, lock.Close())
	}
	l.heal() // where this fails the log is sick, and open
	l.done.Go(l.commit)
	l.done.Go(l.reserve)
	return l, nil
}

// recover reads the folder and sets the log behind the last record in it.
func (l *Log) recover() error {
	if err := l.findSegments(); err != nil {
		return err
	}
	at := Genesis(l.node)
	var last, floor Mark
	var floorChain Hash
	for len(l.segs) > 0 {
		s := l.segs[len(l.segs)-1]
		end, err := l.recoverTail(s)
		if err != nil {
			return err
		}
		last, at = Mark{s.head.epoch, end.last}, end.chain
		if end.any {
			break
		}
		// Begun and never written to. What came before it was on the disk.
		if floor == (Mark{}) {
			floor, floorChain = last, at
		}
		l.segs = l.segs[:len(l.segs)-1]
		_ = s.close()
		if err := l.fs.Remove(filepath.Join(l.dir, s.name)); err != nil {
			return err
		}
	}
	if last.Seq < floor.Seq {
		l.Recovered.Lost += floor.Seq - last.Seq
		last.Seq, at = floor.Seq, floorChain
	}
	last.Epoch = max(last.Epoch, floor.Epoch)
	for _, s := range l.segs {
		l.segBytes += s.size
	}
	l.Recovered.Last = last
	l.seq, l.durable, l.shown, l.want = last.Seq, last.Seq, last.Seq, last.Seq
	l.epoch = max(last.Epoch+1, uint64(l.now().UnixMilli()))
	l.crc = epochCRC(l.epoch)
	l.chain = ChainFrom(at)
	l.head, l.headAt = at, last
	return nil
}

// findSegments opens every segment whose header can be read, oldest first.
func (l *Log) findSegments() error {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return err
	}
	sort.Strings(names)
	for _, name := range names {
		if _, _, ok := parseName(name); !ok {
			continue
		}
		s, err := l.openSegment(name)
		switch {
		case errors.Is(err, errHeader):
			// A header is durable before anything follows it, so this is either
			// an attempt that never came to hold a record, or damage. Keep it
			// out of the way for whoever wants to look.
			aside := name + ".damaged"
			if err := l.fs.Rename(filepath.Join(l.dir, name), filepath.Join(l.dir, aside)); err != nil {
				return err
			}
			l.Recovered.Quarantined = append(l.Recovered.Quarantined, aside)
		case err != nil:
			return fmt.Errorf("open segment %s: %w", name, err)
		default:
			l.segs = append(l.segs, s)
		}
	}
	return nil
}

func (l *Log) openSegment(name string) (*segment, error) {
	f, err := l.fs.Open(filepath.Join(l.dir, name), false)
	if err != nil {
		return nil, err
	}
	s := &segment{name: name, file: f}
	if s.size, err = f.Size(); err == nil {
		b := make([]byte, headerSize)
		if _, err = f.ReadAt(b, 0); err != nil && s.size < headerSize {
			err = errHeader
		}
		if err == nil {
			s.head, err = decodeHeader(b)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.crc = epochCRC(s.head.epoch)
	return s, nil
}

type segmentEnd struct {
	any   bool
	last  uint64
	chain Hash
}

// recoverTail reads the newest segment to its last good record and cuts off
// what follows.
func (l *Log) recoverTail(s *segment) (segmentEnd, error) {
	b := make([]byte, s.size)
	if n, err := s.file.ReadAt(b, 0); int64(n) < s.size {
		return segmentEnd{}, err
	}
	end := segmentEnd{last: s.head.first - 1}
	c := ChainFrom(s.head.chain)
	good := headerSize
	for off := headerSize; off < len(b); {
		f := valid(b[off:], s.crc)
		if f == nil || f.seq() <= end.last {
			skip := resync(b[off+1:], s.crc, end.last)
			if skip < 0 || !promised(b[off+1+skip:], s.crc, end.last+1) {
				break // nobody was told that what follows is safe
			}
			off += 1 + skip
			continue
		}
		l.Recovered.Lost += f.seq() - end.last - 1
		c.Add(Mark{s.head.epoch, f.seq()}, f.payload())
		end.any, end.last = true, f.seq()
		off += len(f)
		good = off
	}
	end.chain = c.at
	for i := len(b); i > good; i-- {
		if b[i-1] != 0 {
			l.Recovered.Torn += int64(i - good)
			break
		}
	}
	s.size = int64(good)
	return end, s.file.Truncate(s.size)
}

// promised says whether a record in b tells that the one with sequence seq
// had been durable before it.
func promised(b []byte, crc uint32, seq uint64) bool {
	after := seq
	for len(b) > 0 {
		f := valid(b, crc)
		if f == nil {
			skip := resync(b[1:], crc, after)
			if skip < 0 {
				return false
			}
			b = b[1+skip:]
			continue
		}
		if f.seq()-1-f.lag() >= seq {
			return true
		}
		after = f.seq()
		b = b[len(f):]
	}
	return false
}
