//go:build linux

package spool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const victimVar = "SALLYPORT_SPOOL_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimVar); dir != "" {
		victim(dir)
		return
	}
	os.Exit(m.Run())
}

// victim appends from 32 goroutines and says on its standard output which
// sequences it was told are safe, until somebody kills it. With a number in
// the environment it ends itself at that file operation.
func victim(dir string) {
	o := Options{Node: "n", Limit: 64 << 20}
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_DIE_AT")); err == nil {
		o.FS = &mortalFS{FS: Disk{}, at: n}
	}
	l, err := Open(dir, o)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("epoch", l.Epoch())
	var mu sync.Mutex
	for range 32 {
		go func() {
			for {
				m, err := l.Append(5, time.Now(), fmt.Appendf(nil, `{"at":%d,"fill":"%0*d"}`, time.Now().UnixNano(), rand.IntN(2000), 0))
				if err == nil {
					err = l.Sync(context.Background(), m)
				}
				if errors.Is(err, ErrFull) {
					l.Release(Mark{l.epoch, m.Seq})
					l.mu.Lock()
					seq := l.durable
					l.mu.Unlock()
					l.Release(Mark{l.epoch, seq})
					continue
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				_, err = os.Stdout.WriteString(strconv.FormatUint(m.Seq, 10) + "\n")
				mu.Unlock()
				if err != nil {
					os.Exit(1)
				}
			}
		}()
	}
	select {}
}

// mortalFS ends the process at the n-th operation that changes something.
type mortalFS struct {
	FS
	mu sync.Mutex
	at int
}

func (f *mortalFS) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at--; f.at == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (f *mortalFS) Open(name string, create bool) (File, error) {
	f.count()
	file, err := f.FS.Open(name, create)
	return mortalFile{file, f}, err
}

func (f *mortalFS) Remove(name string) error     { f.count(); return f.FS.Remove(name) }
func (f *mortalFS) SyncDir(dir string) error     { f.count(); return f.FS.SyncDir(dir) }
func (f *mortalFS) Rename(from, to string) error { f.count(); return f.FS.Rename(from, to) }

type mortalFile struct {
	File
	fs *mortalFS
}

func (f mortalFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.count()
	return f.File.WriteAt(p, off)
}
func (f mortalFile) Sync() error               { f.fs.count(); return f.File.Sync() }
func (f mortalFile) Truncate(size int64) error { f.fs.count(); return f.File.Truncate(size) }
func (f mortalFile) Reserve(size int64) error  { f.fs.count(); return f.File.Reserve(size) }

// life runs a victim until it is killed, and returns what it was told is safe.
func life(t *testing.T, dir, dieAt string, patience time.Duration) (acked []uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVar+"="+dir, "SALLYPORT_DIE_AT="+dieAt)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	killed := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer killed.Stop()
	for lines.Scan() {
		text := lines.Text()
		if strings.HasPrefix(text, "error") {
			t.Errorf("the victim says %s", text)
		}
		if strings.HasPrefix(text, "epoch") {
			if patience > 0 {
				killed.Reset(patience)
			}
			continue
		}
		seq, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			continue // a line that the kill cut off
		}
		acked = append(acked, seq)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	return acked
}

// survey opens what a victim left and returns what is in it.
func survey(t *testing.T, dir string) (found map[uint64]bool, r Recovery) {
	t.Helper()
	l, err := Open(dir, Options{Node: "n", Limit: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	found = map[uint64]bool{}
	tail := l.Reader(Mark{})
	var next uint64
	for {
		recs, more, err := tail.Read(1000, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if more != nil {
			break
		}
		for _, rec := range recs {
			if next != 0 && rec.Seq != next {
				t.Errorf("record %d follows %d", rec.Seq, next-1)
			}
			next = rec.Seq + 1
			found[rec.Seq] = true
		}
	}
	if problems, err := Walk(Disk{}, dir, func(string, Record, Hash) error { return nil }); err != nil || len(problems) > 0 {
		t.Errorf("walk: %v %v", problems, err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return found, l.Recovered
}

// TestKill9 kills a writing process at random moments and at every file
// operation. Kills do not test syncs, for the page cache survives them; the
// tests of power failures do.
func TestKill9(t *testing.T) {
	total, torn := 0, 0
	check := func(name, dir, dieAt string, patience time.Duration) {
		acked := life(t, dir, dieAt, patience)
		found, r := survey(t, dir)
		if r.Lost > 0 || len(r.Quarantined) > 1 {
			t.Errorf("%s: recovery tells %+v", name, r)
		}
		for _, seq := range acked {
			if !found[seq] && seq >= oldest(found) {
				t.Errorf("%s: record %d was acknowledged and is gone", name, seq)
			}
		}
		total += len(acked)
		if r.Torn > 0 {
			torn++
		}
	}
	kills := rounds(6, 1000)
	dir := t.TempDir()
	for i := range kills {
		if i%20 == 0 {
			dir = filepath.Join(t.TempDir(), "spool")
		}
		check(fmt.Sprintf("kill %d", i), dir, "", time.Duration(20+rand.IntN(120))*time.Millisecond)
		if t.Failed() {
			return
		}
	}
	ops := rounds(12, 200)
	for n := 1; n <= ops; n++ {
		check(fmt.Sprintf("operation %d", n), filepath.Join(t.TempDir(), "spool"), strconv.Itoa(n), 0)
		if t.Failed() {
			return
		}
	}
	if total < 100*kills/6 {
		t.Errorf("only %d records were acknowledged in %d lives; this proves nothing", total, kills+ops)
	}
	t.Logf("%d kills: %d records acknowledged, 0 lost, %d torn tails", kills+ops, total, torn)
}

func oldest(found map[uint64]bool) uint64 {
	least := ^uint64(0)
	for seq := range found {
		least = min(least, seq)
	}
	return least
}

// shortDisk does not reserve, so that a limit on file sizes cuts writes short.
type shortDisk struct{ Disk }

func (shortDisk) Open(name string, create bool) (File, error) {
	f, err := Disk{}.Open(name, create)
	return shortFile{f}, err
}

type shortFile struct{ File }

func (shortFile) Reserve(int64) error { return nil }

// The kernel itself cuts writes short where a file may not grow any further.
func TestKernelCutsWritesShort(t *testing.T) {
	if os.Getenv("SALLYPORT_RLIMIT") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKernelCutsWritesShort$", "-test.v")
		cmd.Env = append(os.Environ(), "SALLYPORT_RLIMIT="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	// Below a segment's size, so that a segment ends in a short write.
	limit := unix.Rlimit{Cur: 40_001, Max: 40_001}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("SALLYPORT_RLIMIT")
	l, err := Open(dir, Options{Node: "n", Limit: 1 << 20, FS: shortDisk{}})
	if err != nil {
		t.Fatal(err)
	}
	said := map[uint64]string{}
	for i := range 300 {
		text := fmt.Sprintf("record %d %0*d", i, rand.IntN(900), 0)
		m, err := l.Append(5, time.Now(), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		said[m.Seq] = text
		if i%7 == 0 {
			if err := l.Sync(t.Context(), m); err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	found := 0
	problems, err := Walk(Disk{}, dir, func(_ string, r Record, _ Hash) error {
		if string(r.Payload) != said[r.Seq] {
			return fmt.Errorf("record %d says %q, want %q", r.Seq, r.Payload, said[r.Seq])
		}
		found++
		return nil
	})
	if err != nil || len(problems) > 0 || found != len(said) {
		t.Errorf("%d records of %d, %v, %v", found, len(said), problems, err)
	}
}
