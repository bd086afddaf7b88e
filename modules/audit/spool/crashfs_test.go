package spool

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
)

// crashFS is a file system in memory that knows what of it would be left after
// the power fails: what was synced, and of the rest any mixture of sectors.
type crashFS struct {
	mu    sync.Mutex
	names map[string]*inode // as programs see it
	safe  map[string]*inode // as the last SyncDir left it
	ops   int
	// fail is asked before every operation and may return its error.
	fail  func(op int, what string) error
	total int64 // of the volume; zero: without bounds
}

type inode struct {
	data   []byte
	synced []byte
	writes []change
}

// change is a write that is not synced; with data nil it sets the size.
type change struct {
	off  int64
	data []byte
}

const sector = 512

var errDead = errors.New("the power is off")

func newCrashFS() *crashFS {
	return &crashFS{names: make(map[string]*inode), safe: make(map[string]*inode)}
}

// breaks has fail asked from now on; nil: nobody.
func (c *crashFS) breaks(fail func(op int, what string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = fail
}

func (c *crashFS) op(what string) error {
	c.ops++
	if c.fail == nil {
		return nil
	}
	return c.fail(c.ops, what)
}

// crash returns what the next start finds.
func (c *crashFS) crash(rng *rand.Rand) *crashFS {
	c.mu.Lock()
	defer c.mu.Unlock()
	after := newCrashFS()
	after.total = c.total
	everything := maps.Clone(c.safe)
	for name, n := range c.names {
		if everything[name] != n && rng.IntN(2) == 0 {
			everything[name] = n
		}
	}
	for name := range c.safe {
		if c.names[name] == nil && rng.IntN(2) == 0 {
			delete(everything, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(everything)) {
		left := &inode{synced: everything[name].afterCrash(rng)}
		left.data = slices.Clone(left.synced)
		after.names[name], after.safe[name] = left, left
	}
	return after
}

func (n *inode) afterCrash(rng *rand.Rand) []byte {
	b := slices.Clone(n.synced)
	mood := rng.IntN(4) // none, all, or a mixture
	for _, w := range n.writes {
		if w.data == nil {
			if mood == 1 || mood > 1 && rng.IntN(2) == 0 {
				b = resize(b, w.off)
			}
			continue
		}
		for i := 0; i < len(w.data); {
			end := min(len(w.data), i+sector-int((w.off+int64(i))%sector))
			if mood == 1 || mood > 1 && rng.IntN(2) == 0 {
				b = writeAt(b, w.data[i:end], w.off+int64(i))
			}
			i = end
		}
	}
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func writeAt(b, p []byte, off int64) []byte {
	if end := off + int64(len(p)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[off:], p)
	return b
}

func (c *crashFS) used() (n int64) {
	for _, f := range c.names {
		n += int64(len(f.data))
	}
	return n
}

func (c *crashFS) Make(string) error { return nil }

func (c *crashFS) Open(name string, create bool) (File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("open"); err != nil {
		return nil, err
	}
	n := c.names[name]
	switch {
	case n != nil && create:
		return nil, fs.ErrExist
	case n == nil && !create:
		return nil, fs.ErrNotExist
	case create:
		n = new(inode)
		c.names[name] = n
	}
	return &crashFile{c, n}, nil
}

func (c *crashFS) List(dir string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for name := range c.names {
		if filepath.Dir(name) == dir {
			list = append(list, filepath.Base(name))
		}
	}
	return list, nil
}

func (c *crashFS) Rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("rename"); err != nil {
		return err
	}
	c.names[to] = c.names[from]
	delete(c.names, from)
	return nil
}

func (c *crashFS) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("remove"); err != nil {
		return err
	}
	if c.names[name] == nil {
		return fs.ErrNotExist
	}
	delete(c.names, name)
	return nil
}

func (c *crashFS) SyncDir(string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("syncdir"); err != nil {
		return err
	}
	c.safe = maps.Clone(c.names)
	return nil
}

func (c *crashFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (c *crashFS) Free(string) (total, left int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total, c.total - c.used(), nil
}

type crashFile struct {
	c *crashFS
	n *inode
}

func (f *crashFile) ReadAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// shortWrite is an error after which half of a write has happened.
type shortWrite struct{ error }

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.op("write"); err != nil {
		if _, short := errors.AsType[shortWrite](err); short {
			f.put(p[:len(p)/2], off)
			return len(p) / 2, err
		}
		return 0, err
	}
	f.put(p, off)
	return len(p), nil
}

func (f *crashFile) put(p []byte, off int64) {
	f.n.data = writeAt(f.n.data, p, off)
	f.n.writes = append(f.n.writes, change{off, slices.Clone(p)})
}

// Sync that fails loses what was to be written, and does not try again: that
// is how Linux treats pages whose write has failed.
func (f *crashFile) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	err := f.c.op("sync")
	if err == nil {
		for _, w := range f.n.writes {
			if w.data == nil {
				f.n.synced = resize(f.n.synced, w.off)
			} else {
				f.n.synced = writeAt(f.n.synced, w.data, w.off)
			}
		}
	}
	if !errors.Is(err, errDead) {
		f.n.writes = nil
	}
	return err
}

func (f *crashFile) Truncate(size int64) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.op("truncate"); err != nil {
		return err
	}
	f.n.data = resize(f.n.data, size)
	f.n.writes = append(f.n.writes, change{off: size})
	return nil
}

func (f *crashFile) Reserve(size int64) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.op("reserve"); err != nil {
		return err
	}
	if size > int64(len(f.n.data)) {
		f.n.data = resize(f.n.data, size)
		f.n.writes = append(f.n.writes, change{off: size})
	}
	return nil
}

func (f *crashFile) Size() (int64, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *crashFile) Close() error { return nil }
