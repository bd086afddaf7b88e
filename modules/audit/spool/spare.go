package spool

import "path/filepath"

// The spare is the file that becomes the next segment. Its room is reserved
// while the active segment still fills, so that a roll neither waits for the
// allocation nor finds the disk full:
//
//	next.spare  created, reserved, synced               by reserve, in the background
//	            header written, synced                  by adopt, at the roll
//	            renamed <epoch>-<first>.aseg, folder synced
//
// A file has a segment's name only once its header is durable. Until then it
// holds nothing that anybody was told is safe, so that the next Open removes a
// spare that a crash has left.
const spareName = "next.spare"

// reserve keeps a spare at hand. It runs beside the committer, which asks for
// one at each roll and goes without where there is none yet.
func (l *Log) reserve() {
	for {
		select {
		case <-l.ahead:
		case <-l.quit:
			return
		}
		if !l.spacious() {
			continue
		}
		f, err := l.reserveFile()
		if err != nil {
			continue // the roll allocates for itself, and tells what is wrong
		}
		l.mu.Lock()
		l.next = f
		l.mu.Unlock()
	}
}

// spacious says whether a spare is missing and there is room for it.
func (l *Log) spacious() bool {
	l.mu.Lock()
	missing, fits, minFree := l.next == nil, l.fitsLocked(), l.minFree
	l.mu.Unlock()
	if !missing || !fits {
		return false
	}
	total, left, err := l.fs.Free(l.dir)
	return err != nil || total == 0 || float64(left-l.size) >= minFree*float64(total)
}

// fitsLocked says whether the limit has room for a spare besides the active
// segment, which counts with the room that it has reserved.
func (l *Log) fitsLocked() bool {
	taken := l.segBytes + l.size
	if l.active != nil {
		taken += max(0, l.size-l.active.size)
	}
	return taken <= l.limit
}

func (l *Log) reserveFile() (File, error) {
	path := filepath.Join(l.dir, spareName)
	_ = l.fs.Remove(path) // of an attempt that failed
	f, err := l.fs.Open(path, true)
	if err != nil {
		return nil, err
	}
	if err = f.Reserve(l.size); err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		_ = l.fs.Remove(path) // or the next attempt does
		return nil, err
	}
	return f, nil
}

// adopt makes the spare the segment at path. It says whether it has; where
// not, whatever stands under the one name or the other is there to be replaced.
func (l *Log) adopt(s *segment, path string) bool {
	l.mu.Lock()
	f := l.next
	l.mu.Unlock()
	if f == nil {
		return false
	}
	_, err := f.WriteAt(s.head.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.fs.Rename(filepath.Join(l.dir, spareName), path)
	}
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	l.mu.Lock()
	l.next = nil // not before its name is free: reserve waits for that
	l.mu.Unlock()
	if err != nil {
		_ = f.Close()
		return false
	}
	s.file = f
	return true
}

// tendSpare asks for a spare where there is none, and gives its room back
// where a lower limit has none for it.
func (l *Log) tendSpare() {
	l.mu.Lock()
	excess := l.next != nil && !l.fitsLocked()
	l.mu.Unlock()
	if excess {
		l.dropSpare()
	}
	l.wantSpare()
}

func (l *Log) wantSpare() {
	select {
	case l.ahead <- struct{}{}:
	default: // it has been asked for already
	}
}

// dropSpare belongs to the committer, and to Close once that has ended.
func (l *Log) dropSpare() {
	l.mu.Lock()
	f := l.next
	l.mu.Unlock()
	if f == nil {
		return
	}
	_ = f.Close()
	_ = l.fs.Remove(filepath.Join(l.dir, spareName)) // or the next attempt, or the next Open does
	l.mu.Lock()
	l.next = nil
	l.mu.Unlock()
}
