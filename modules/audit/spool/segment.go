package spool

import (
	"errors"
	"path/filepath"
	"sync"
)

// segment is one file of the log.
type segment struct {
	name string
	head header
	crc  uint32 // of the epoch

	// size is where the records end. Guarded by the log's mutex while the
	// segment is active; fixed after that.
	size int64

	mu     sync.RWMutex // guards file against closing while it is read
	file   File
	closed bool
}

var errGone = errors.New("segment is gone")

func (s *segment) readAt(b []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, errGone
	}
	return s.file.ReadAt(b, off)
}

func (s *segment) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.file.Close()
}

// begin creates the segment whose first record follows the last durable one.
func (l *Log) begin(first uint64, at Hash) (*segment, error) {
	s := &segment{
		name: segmentName(l.epoch, first), crc: l.crc, size: headerSize,
		head: header{node: l.node, epoch: l.epoch, first: first, created: l.now().UnixNano(), chain: at},
	}
	path := filepath.Join(l.dir, s.name)
	if l.adopt(s, path) {
		return s, nil
	}
	f, err := l.fs.Open(path, true)
	if err != nil {
		// Left by an attempt that failed before anything in it was safe.
		if rmErr := l.fs.Remove(path); rmErr != nil {
			return nil, err
		}
		if f, err = l.fs.Open(path, true); err != nil {
			return nil, err
		}
	}
	s.file = f
	if err := l.prepare(s); err != nil {
		_ = s.close()
		_ = l.fs.Remove(path) // what is left of it is overwritten or skipped later
		return nil, err
	}
	return s, nil
}

func (l *Log) prepare(s *segment) error {
	if err := s.file.Reserve(l.size); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(s.head.encode(), 0); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	return l.fs.SyncDir(l.dir)
}
