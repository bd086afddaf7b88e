package spool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// full says that the long forms run, as `make durability` has it.
func full() bool { return os.Getenv("SALLYPORT_DURABILITY") == "full" }

func rounds(short, long int) int {
	if full() {
		return long
	}
	return short
}

// ledger is what the test knows about the records it has appended.
type ledger struct {
	said  map[uint64]string // by sequence, in the newest epoch that used it
	epoch map[uint64]uint64
	acked map[uint64]bool
}

func newLedger() *ledger {
	return &ledger{map[uint64]string{}, map[uint64]uint64{}, map[uint64]bool{}}
}

func (g *ledger) append(l *Log, rng *rand.Rand) (Mark, error) {
	text := fmt.Sprintf(`{"r":%d,"fill":"%0*d"}`, rng.Uint64(), rng.IntN(1200), 0)
	m, err := l.Append(uint8(rng.IntN(Classes)), time.Now(), []byte(text))
	if err == nil {
		g.said[m.Seq], g.epoch[m.Seq] = text, m.Epoch
		delete(g.acked, m.Seq)
	}
	return m, err
}

// check opens what is left and compares it with the ledger: everything that
// was acknowledged is there, in order, and nothing else than what was said.
func (g *ledger) check(t *testing.T, c *crashFS) *Log {
	t.Helper()
	l, err := Open("spool", Options{Node: "n", Limit: 1 << 20, FS: c})
	if err != nil {
		t.Fatalf("open after the crash: %v", err)
	}
	if l.Recovered.Lost != 0 || len(l.Recovered.Quarantined) > 1 {
		t.Errorf("recovery tells of losses: %+v", l.Recovered)
	}
	r := l.Reader(Mark{})
	found := map[uint64]bool{}
	next := uint64(1)
	for {
		recs, more, err := r.Read(100, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if more != nil {
			break
		}
		for _, rec := range recs {
			if rec.Seq != next {
				t.Errorf("record %d follows %d", rec.Seq, next-1)
			}
			next = rec.Seq + 1
			if want := g.said[rec.Seq]; string(rec.Payload) != want || rec.Epoch != g.epoch[rec.Seq] {
				t.Errorf("record %d of epoch %d says %.60q, want epoch %d %.60q", rec.Seq, rec.Epoch, rec.Payload, g.epoch[rec.Seq], want)
			}
			found[rec.Seq] = true
		}
	}
	for seq := range g.acked {
		if !found[seq] {
			t.Errorf("record %d had been acknowledged and is gone", seq)
		}
	}
	// Sequences behind the last one found will be used again, by a new epoch.
	for seq := range g.said {
		if seq > l.Recovered.Last.Seq {
			delete(g.said, seq)
		}
	}
	problems, err := Walk(c, "spool", func(string, Record, Hash) error { return nil })
	if err != nil || len(problems) > 0 {
		t.Errorf("walk: %v %v", err, problems)
	}
	return l
}

// TestPowerFailure lets the power fail at a random operation, three times in a
// row on what is left, with random sectors of what was not synced.
func TestPowerFailure(t *testing.T) {
	seeds := rounds(400, 10_000)
	if s := os.Getenv("SALLYPORT_SEED"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		powerFailure(t, uint64(n))
		return
	}
	for seed := range seeds {
		powerFailure(t, uint64(seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func powerFailure(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := newLedger()
		c := newCrashFS()
		for range 3 {
			l := g.check(t, c)
			c.mu.Lock()
			limit := c.ops + 1 + rng.IntN(80)
			c.mu.Unlock()
			c.breaks(func(op int, _ string) error {
				if op >= limit {
					return errDead
				}
				return nil
			})
			g.live(l, rng)
			_ = l.Close() // what it still tries fails: the power is off
			next := c.crash(rng)
			c = next
			if t.Failed() {
				return
			}
		}
		l := g.check(t, c)
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// live appends until the power is off; now and then it waits for the disk.
func (g *ledger) live(l *Log, rng *rand.Rand) {
	for range 200 {
		m, err := g.append(l, rng)
		if err != nil {
			return
		}
		switch rng.IntN(6) {
		case 0:
			if l.Sync(context.Background(), m) != nil {
				return
			}
			for seq := range g.said {
				if seq <= m.Seq {
					g.acked[seq] = true
				}
			}
		case 1:
			time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		case 2:
			synctest.Wait()
		}
	}
}
