package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const spare = "spool/" + spareName

func (c *crashFS) inode(name string) *inode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[name]
}

func (c *crashFS) has(name string) bool { return c.inode(name) != nil }

func (l *Log) segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segs)
}

// roll appends, and waits for the disk, until another segment has begun.
func (g *ledger) roll(ctx context.Context, t *testing.T, l *Log, rng *rand.Rand) {
	t.Helper()
	for before := l.segments(); l.segments() == before; {
		m, err := g.append(l, rng)
		if err == nil {
			err = l.Sync(ctx, m)
		}
		if err != nil {
			t.Fatalf("record %d: %v", m.Seq, err)
		}
		g.acked[m.Seq] = true
	}
}

// slowFS takes its time to reserve room, as long as slow is not nil.
type slowFS struct {
	*crashFS
	slow atomic.Pointer[chan struct{}]
}

func (s *slowFS) Open(name string, create bool) (File, error) {
	f, err := s.crashFS.Open(name, create)
	return slowFile{f, s}, err
}

type slowFile struct {
	File
	fs *slowFS
}

func (f slowFile) Reserve(size int64) error {
	if slow := f.fs.slow.Load(); slow != nil {
		<-*slow
	}
	return f.File.Reserve(size)
}

func TestRollDoesNotWaitForAllocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slowFS{crashFS: newCrashFS()}
		l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, FS: c})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		reserved := c.inode(spare)
		if reserved == nil {
			t.Fatal("no room is reserved for the second segment")
		}
		slow := make(chan struct{})
		c.slow.Store(&slow)
		g, rng := newLedger(), rand.New(rand.NewPCG(1, 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		g.roll(ctx, t, l, rng)
		l.mu.Lock()
		second := l.active.name
		l.mu.Unlock()
		if c.inode("spool/"+second) != reserved {
			t.Error("the roll has not used the room that was reserved")
		}
		c.slow.Store(nil)
		close(slow)
		synctest.Wait()
		if !c.has(spare) {
			t.Error("no room is reserved for the third segment")
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if c.has(spare) {
			t.Error("a log that is closed keeps room reserved")
		}
		_ = g.check(t, c.crash(rng)).Close()
	})
}

// Whatever fails while the spare becomes a segment, the roll goes on without it.
func TestRollWithABrokenSpare(t *testing.T) {
	for _, what := range []string{"write", "sync", "rename", "syncdir"} {
		for _, lasts := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%s fails %d times", what, lasts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { brokenSpare(t, what, lasts) })
			})
		}
	}
}

func brokenSpare(t *testing.T, what string, lasts int) {
	c := newCrashFS()
	g, rng := newLedger(), rand.New(rand.NewPCG(1, 1))
	l := g.check(t, c)
	for l.roomLeft() > 2<<10 {
		m, err := g.append(l, rng)
		if err == nil {
			err = l.Sync(t.Context(), m)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.acked[m.Seq] = true
	}
	synctest.Wait()
	failed := 0
	c.breaks(func(_ int, op string) error {
		if op == what && failed < lasts {
			failed++
			return syscall.EIO
		}
		return nil
	})
	for range 20 {
		m, err := g.append(l, rng)
		if err != nil {
			t.Fatal(err)
		}
		for l.Sync(t.Context(), m) != nil {
			time.Sleep(time.Second)
		}
		g.acked[m.Seq] = true
	}
	if failed < min(lasts, 1) || l.segments() < 2 {
		t.Errorf("%d operations have failed and there are %d segments; this proves nothing", failed, l.segments())
	}
	c.breaks(nil)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	_ = g.check(t, c.crash(rng)).Close()
}

func (l *Log) roomLeft() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size - l.active.size
}

// A spare that a crash leaves is removed, even where the crash has left it
// under both names: its records count once.
func TestSpareLeftByACrash(t *testing.T) {
	c, name := damaged(t, 5)
	c.names[spare] = &inode{data: slices.Clone(c.names[name].data)}
	if problems, err := Walk(c, "spool", func(string, Record, Hash) error { return nil }); err != nil || len(problems) > 0 {
		t.Errorf("walk: %v %v", problems, err)
	}
	// So full that no other takes its place.
	l, err := Open("spool", Options{Node: "n", Limit: 64 << 10, FS: c})
	if err != nil {
		t.Fatal(err)
	}
	if c.has(spare) {
		t.Error("the spare of an earlier life is still there")
	}
	if got := readAll(t, l); got != 5 || l.Recovered.Lost != 0 || l.Recovered.Quarantined != nil {
		t.Errorf("%d records, %+v", got, l.Recovered)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// The spare counts for the bounds: it is never reserved beyond the limit, nor
// below what is to be left of the volume, and a lower limit takes it back.
func TestSpareKeepsToTheBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		c := newCrashFS()
		g, rng := newLedger(), rand.New(rand.NewPCG(1, 1))
		l := g.check(t, c)
		for {
			m, err := l.Append(uint8(Classes-1), time.Now(), make([]byte, 1000))
			if errors.Is(err, ErrFull) {
				break
			}
			if err == nil {
				err = l.Sync(t.Context(), m)
			}
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			c.mu.Lock()
			used, reserved := c.used(), c.names[spare] != nil
			c.mu.Unlock()
			if reserved && used > limit {
				t.Fatalf("%d bytes are taken, a spare among them, of %d", used, limit)
			}
		}
		l.Release(l.Stats().Last)
		time.Sleep(2 * time.Second)
		g.roll(t.Context(), t, l, rng)
		synctest.Wait()
		if !c.has(spare) {
			t.Fatal("no room is reserved after what was held has been released")
		}
		l.SetBounds(64<<10, 0, false)
		for range 3 {
			time.Sleep(2 * time.Second)
			l.wake()
			synctest.Wait()
		}
		if c.has(spare) {
			t.Error("a lower limit leaves the spare where it is")
		}
		_ = l.Close()
	})
}

func TestSpareLeavesTheVolumeItsMinimum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrashFS()
		c.total = 1 << 20
		c.names["elsewhere/big"] = &inode{data: make([]byte, 400<<10)}
		l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, MinFree: 0.5, FS: c})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c.has(spare) {
			t.Error("a spare takes what is to be left to others")
		}
		c.mu.Lock()
		delete(c.names, "elsewhere/big")
		c.mu.Unlock()
		time.Sleep(2 * time.Second)
		l.wake()
		synctest.Wait()
		if !c.has(spare) {
			t.Error("no room is reserved after others have left theirs")
		}
		_ = l.Close()
	})
}
