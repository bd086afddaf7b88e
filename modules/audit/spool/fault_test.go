package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestEveryOperationFails breaks the n-th operation of a fixed life, for every
// n, in every way, and lets the disk come back a while later.
func TestEveryOperationFails(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
	}{
		{"disk full", syscall.ENOSPC},
		{"short write", shortWrite{syscall.ENOSPC}},
		{"input output error", syscall.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; ; n++ {
				reached := false
				for _, lasts := range []int{1, 3, 1000} {
					synctest.Test(t, func(t *testing.T) { reached = failFrom(t, n, lasts, c.err) })
					if t.Failed() {
						t.Fatalf("operation %d, for %d operations", n, lasts)
					}
				}
				if !reached {
					if n < 20 {
						t.Fatalf("the life has only %d operations", n)
					}
					return
				}
			}
		})
	}
}

func failFrom(t *testing.T, n, lasts int, err error) (reached bool) {
	rng := rand.New(rand.NewPCG(7, 7))
	c := newCrashFS()
	g := newLedger()
	l := g.check(t, c)
	c.breaks(func(op int, _ string) error {
		if op >= n && op < n+lasts {
			reached = true
			return err
		}
		return nil
	})
	for range 60 {
		m, err := g.append(l, rng)
		if err != nil {
			t.Fatalf("append: %v", err)
		}
		if rng.IntN(3) == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
			if l.Sync(ctx, m) == nil {
				g.acked[m.Seq] = true
			}
			cancel()
		}
	}
	// Readers lack nothing, whether the disk takes it or not.
	time.Sleep(time.Second)
	if got := readAll(t, l); got != len(g.said) {
		t.Errorf("readers get %d records of %d", got, len(g.said))
	}
	c.breaks(nil)
	time.Sleep(2 * healEvery)
	last, err := g.append(l, rng)
	if err != nil {
		t.Fatalf("append after the disk came back: %v", err)
	}
	if err := l.Sync(t.Context(), last); err != nil {
		t.Errorf("sync after the disk came back: %v", err)
	}
	for seq := range g.said {
		g.acked[seq] = true // what was held has been written by now
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := g.check(t, c.crash(rng)).Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return reached
}

func readAll(t *testing.T, l *Log) (n int) {
	t.Helper()
	r := l.Reader(Mark{})
	for {
		recs, more, err := r.Read(1000, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if more != nil {
			return n
		}
		n += len(recs)
	}
}

// A sync that fails once is not tried again on the same descriptor, whose next
// sync would say yes without having written.
func TestFailedSyncIsWrittenElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrashFS()
		g := newLedger()
		l := g.check(t, c)
		rng := rand.New(rand.NewPCG(1, 1))
		failed := false
		c.breaks(func(_ int, what string) error {
			if what == "sync" && !failed {
				failed = true
				return syscall.EIO
			}
			return nil
		})
		m, err := g.append(l, rng)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(t.Context(), m); err != nil {
			t.Errorf("sync: %v", err)
		}
		g.acked[m.Seq] = true
		if !failed {
			t.Error("no sync was tried")
		}
		c.breaks(nil)
		_ = g.check(t, c.crash(rng)).Close()
		_ = l.Close()
	})
}

func TestBrokenDiskIsToldAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrashFS()
		g := newLedger()
		l := g.check(t, c)
		rng := rand.New(rand.NewPCG(1, 1))
		c.breaks(func(_ int, what string) error {
			if what == "sync" {
				return syscall.EIO
			}
			return nil
		})
		m, err := g.append(l, rng)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := l.Sync(t.Context(), m); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync on a broken disk: %v, want the disk's error", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("sync took %v to find out", took)
		}
		if l.Stats().Durable {
			t.Error("a log that cannot sync calls itself durable")
		}
		if got := readAll(t, l); got != 1 {
			t.Errorf("readers get %d records from memory, want 1", got)
		}
		c.breaks(nil)
		time.Sleep(healEvery + time.Second)
		if !l.Stats().Durable {
			t.Error("the log does not heal")
		}
		if err := l.Sync(t.Context(), m); err != nil {
			t.Errorf("sync after healing: %v", err)
		}
		_ = l.Close()
	})
}

func TestBoundsSacrificeTheLeastFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrashFS()
		l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, FS: c})
		if err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, 1000)
		for i := range payload {
			payload[i] = 'x'
		}
		for class := range uint8(Classes) {
			for {
				m, err := l.Append(class, time.Now(), payload)
				if errors.Is(err, ErrFull) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Sync(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := l.Stats().Bytes, int64(1<<20)*shares[class]/100; got > want || got < want*9/10 {
				t.Errorf("class %d fills %d bytes, want nearly %d", class, got, want)
			}
		}
		m := l.Stats().Last
		l.Release(m)
		if got := l.Stats().Bytes; got > 3*l.size {
			t.Errorf("%d bytes are left after everything was released", got)
		}
		if _, err := l.Append(0, time.Now(), payload); err != nil {
			t.Errorf("append after release: %v", err)
		}
		_ = l.Close()
	})
}

func TestVolumeBelowItsMinimum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrashFS()
		c.total = 1 << 20
		l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, MinFree: 0.5, FS: c})
		if err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.names["elsewhere/big"] = &inode{data: make([]byte, 800<<10)}
		c.mu.Unlock()
		refused := false
		for range 100 {
			_, err := l.Append(classKept-1, time.Now(), []byte("event"))
			refused = refused || errors.Is(err, ErrFull)
			time.Sleep(100 * time.Millisecond)
		}
		if !refused {
			t.Error("a lesser class fills a volume below its minimum")
		}
		if _, err := l.Append(classKept, time.Now(), []byte("event")); err != nil {
			t.Errorf("the best classes are refused: %v", err)
		}
		c.mu.Lock()
		delete(c.names, "elsewhere/big")
		c.mu.Unlock()
		for range 30 {
			_, err = l.Append(0, time.Now(), []byte("event"))
			time.Sleep(100 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("append after room came back: %v", err)
		}
		_ = l.Close()
	})
}

// damaged builds a log of n synced records and returns its only segment.
func damaged(t *testing.T, n int) (c *crashFS, name string) {
	c = newCrashFS()
	l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, FS: c})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m, err := l.Append(5, time.Unix(int64(i), 0), fmt.Appendf(nil, "record %d", i+1))
		if err == nil {
			err = l.Sync(t.Context(), m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	name = "spool/" + l.active.name
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return c, name
}

// Damage to any one byte costs one record at the most, and is told.
func TestEveryByteDamaged(t *testing.T) {
	const records = 12
	c, name := damaged(t, records)
	whole := c.names[name].data
	for i := headerSize; i < len(whole); i++ {
		bad := append([]byte(nil), whole...)
		bad[i] ^= 0x5a
		d := newCrashFS()
		d.names[name] = &inode{data: bad}
		l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, FS: d})
		if err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		found := 0
		var last uint64
		r := l.Reader(Mark{})
		for {
			recs, more, err := r.Read(1000, 1<<20, nil)
			if err != nil {
				t.Fatal(err)
			}
			if more != nil {
				break
			}
			for _, rec := range recs {
				if want := fmt.Sprintf("record %d", rec.Seq); string(rec.Payload) != want || rec.Seq <= last {
					t.Fatalf("byte %d: record %d after %d says %q", i, rec.Seq, last, rec.Payload)
				}
				last = rec.Seq
				found++
			}
		}
		if found != records-1 {
			t.Errorf("byte %d: %d records are left, want all but one", i, found)
		}
		// The last record may as well never have been written.
		if l.Recovered.Lost != 1 && !(last == records-1 && l.Recovered.Torn > 0) {
			t.Errorf("byte %d: the damage is not told: %+v", i, l.Recovered)
		}
		_ = l.Close()
	}
}

func TestDamagedHeaderIsSetAside(t *testing.T) {
	c, name := damaged(t, 3)
	c.names[name].data[20] ^= 1
	l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, FS: c})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Recovered.Quarantined) != 1 || c.names[name+".damaged"] == nil {
		t.Errorf("the segment is not kept: %+v", l.Recovered)
	}
	_ = l.Close()
}

func FuzzOpen(f *testing.F) {
	h := header{node: "n", epoch: 1, first: 1, chain: Genesis("n")}.encode()
	f.Add(h)
	one := appendFrame(nil, 1, 0, 0, []byte("payload"))
	copy(one[4:8], []byte{1, 2, 3, 4})
	f.Add(append(h, one...))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		c := newCrashFS()
		c.names["spool/"+segmentName(1, 1)] = &inode{data: b}
		l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, FS: c})
		if err != nil {
			return
		}
		readAll(t, l)
		if _, err := Walk(c, "spool", func(string, Record, Hash) error { return nil }); err != nil {
			t.Error(err)
		}
		if _, err := l.Append(0, time.Now(), []byte("x")); err != nil {
			t.Errorf("append: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}
