package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
)

// Problem is one thing that is wrong with a log.
type Problem struct {
	// Segment is the file; First and Last are the sequences it is about.
	Segment     string
	First, Last uint64
	// What says it in words.
	What string
}

func (p Problem) String() string {
	if p.First == p.Last {
		return fmt.Sprintf("%s: record %d: %s", p.Segment, p.First, p.What)
	}
	return fmt.Sprintf("%s: records %d to %d: %s", p.Segment, p.First, p.Last, p.What)
}

// Walk reads every segment of dir in order, calls visit with each record and
// the chain's value at it, and returns what does not fit together. It changes
// nothing and takes no lock: a log may be in use meanwhile.
func Walk(fsys FS, dir string, visit func(node string, r Record, at Hash) error) ([]Problem, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	w := walker{visit: visit}
	l := &Log{fs: fsys, dir: dir}
	var segs []*segment
	for _, name := range names {
		if _, _, ok := parseName(name); !ok {
			continue
		}
		s, err := l.openSegment(name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // let go of while we look
			continue
		case err != nil:
			w.note(name, w.next, w.next, err.Error())
			continue
		}
		defer s.close()
		if want := segmentName(s.head.epoch, s.head.first); want != name {
			w.note(name, s.head.first, s.head.first, "the file was called "+want)
		}
		segs = append(segs, s)
	}
	for i, s := range segs {
		end := ^uint64(0)
		if i+1 < len(segs) {
			end = segs[i+1].head.first
		}
		if err := w.segment(s, end, i+1 == len(segs)); err != nil {
			return w.problems, err
		}
	}
	return w.problems, nil
}

type walker struct {
	visit    func(string, Record, Hash) error
	problems []Problem
	begun    bool
	next     uint64
	chain    *Chain
}

func (w *walker) note(segment string, first, last uint64, what string) {
	w.problems = append(w.problems, Problem{segment, first, last, what})
}

func (w *walker) segment(s *segment, end uint64, newest bool) error {
	h := s.head
	switch {
	case !w.begun:
		w.chain = ChainFrom(h.chain)
		if h.first == 1 && h.chain != Genesis(h.node) {
			w.note(s.name, 1, 1, "the chain does not begin as this node's does")
		}
	case h.first > w.next:
		w.note(s.name, w.next, h.first-1, "missing")
		w.chain = ChainFrom(h.chain)
	case h.first < w.next:
		w.note(s.name, h.first, h.first, "the segment overlaps the one before it")
	case h.chain != w.chain.at:
		w.note(s.name, h.first, h.first, "the segment does not continue the chain: a record before it was changed, or it belongs elsewhere")
		w.chain = ChainFrom(h.chain)
	}
	w.begun, w.next = true, h.first
	b := make([]byte, s.size)
	if n, err := s.file.ReadAt(b, 0); int64(n) < s.size {
		return fmt.Errorf("read %s: %w", filepath.Base(s.name), err)
	}
	for off := headerSize; off < len(b) && w.next < end; {
		f := valid(b[off:], s.crc)
		if f == nil {
			skip := resync(b[off+1:], s.crc, w.next-1)
			if skip < 0 {
				break
			}
			off += 1 + skip
			w.note(s.name, w.next, w.next, "damaged")
			continue
		}
		if f.seq() != w.next {
			w.note(s.name, w.next, f.seq(), "out of order, or missing in between")
		}
		m := Mark{h.epoch, f.seq()}
		w.chain.Add(m, f.payload())
		if err := w.visit(h.node, record(h.epoch, f), w.chain.at); err != nil {
			return err
		}
		w.next = f.seq() + 1
		off += len(f)
	}
	if !newest && w.next < end {
		w.note(s.name, w.next, end-1, "missing at the end of the segment")
		w.next = end
	}
	return nil
}
