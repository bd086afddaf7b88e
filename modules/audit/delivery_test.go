package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// script is a sink that answers as told and keeps what it took.
type script struct {
	mu     sync.Mutex
	got    []uint64
	tries  int
	answer func(try int, batch Batch) error
}

func (s *script) Deliver(_ context.Context, batch Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.answer != nil {
		if err := s.answer(s.tries, batch); err != nil {
			return err
		}
	}
	for _, e := range batch.Events {
		s.got = append(s.got, e.Mark.Seq)
	}
	return nil
}

func (s *script) seqs() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// testDesk is a desk over memory with the sinks given, as if an App were bound.
func testDesk(sinks ...*sinkEntry) (*desk, *App) {
	a := &App{Node: "gw", sinks: sinks, logger: zap.NewNop(), envelope: envelopeOf("gw"), metadata: metadataOf()}
	a.pens.New = func() any { return new(pen) }
	a.MaxBytes = 1 << 20
	a.desk = newDesk("gw", "")
	return a.desk, a
}

func put(t *testing.T, d *desk, n int) {
	t.Helper()
	for i := range n {
		if _, err := d.put(auth, time.Now(), fmt.Appendf(nil, `{"specversion":"1.0","type":"sallyport.test","n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
}

func upTo(n uint64) (list []uint64) {
	for i := uint64(1); i <= n; i++ {
		list = append(list, i)
	}
	return list
}

func TestDeliveryFollowsVerdicts(t *testing.T) {
	poison := func(bad uint64, v Verdict) func(int, Batch) error {
		return func(_ int, b Batch) error {
			if slices.ContainsFunc(b.Events, func(e Event) bool { return e.Mark.Seq == bad }) {
				return fault(v, 0, "no")
			}
			return nil
		}
	}
	all := upTo(100)
	for _, c := range []struct {
		name    string
		answer  func(int, Batch) error
		want    []uint64
		after   time.Duration // within which all is delivered
		atLeast time.Duration
	}{
		{"takes all", nil, all, time.Second, 0},
		{"fails three times", func(try int, _ Batch) error {
			if try <= 3 {
				return errors.New("connection refused")
			}
			return nil
		}, all, 10 * time.Second, 300 * time.Millisecond},
		{"asks to wait", func(try int, _ Batch) error {
			if try == 1 {
				return fault(Again, 90*time.Second, "busy")
			}
			return nil
		}, all, 95 * time.Second, 89 * time.Second},
		{"asks to wait for ever", func(try int, _ Batch) error {
			if try == 1 {
				return fault(Again, 1000*time.Hour, "busy")
			}
			return nil
		}, all, 11 * time.Minute, 10*time.Minute - time.Second},
		{"denies until somebody acts", func(try int, _ Batch) error {
			if try <= 2 {
				return fault(Denied, 0, "forbidden")
			}
			return nil
		}, all, 65 * time.Second, 59 * time.Second},
		{"poison in the middle", poison(37, Poison), slices.DeleteFunc(upTo(100), func(n uint64) bool { return n == 37 }), time.Second, 0},
		{"poison at the end", poison(100, Poison), upTo(99), time.Second, 0},
		{"one event too big", poison(1, Smaller), all[1:], time.Second, 0},
		{"batches of ten at most", func(_ int, b Batch) error {
			if len(b.Events) > 10 {
				return fault(Smaller, 0, "too large")
			}
			return nil
		}, all, time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answer: c.answer}
				d, a := testDesk(&sinkEntry{name: "s", sink: s})
				if _, err := d.attach(a); err != nil {
					t.Fatal(err)
				}
				put(t, d, 100)
				if c.atLeast > 0 {
					time.Sleep(c.atLeast)
					if got := s.seqs(); len(got) != 0 {
						t.Errorf("%d events after %v, want none yet", len(got), c.atLeast)
					}
				}
				time.Sleep(c.after)
				got := slices.DeleteFunc(s.seqs(), func(n uint64) bool { return n > 100 })
				if !slices.Equal(got, c.want) {
					t.Errorf("the sink has %v, want %v", got, c.want)
				}
				if st := d.journal.Stats(); st.Bytes != 0 {
					t.Errorf("%d bytes are held after everything was delivered", st.Bytes)
				}
				d.detach(a, time.Second)
				if err := d.Destruct(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestDeadSinkHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := &script{answer: func(int, Batch) error { return errors.New("dead") }}
		alive := &script{}
		d, a := testDesk(&sinkEntry{name: "dead", sink: dead}, &sinkEntry{name: "alive", sink: alive})
		if _, err := d.attach(a); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			put(t, d, 10)
			time.Sleep(10 * time.Second)
			if lag := d.journal.Stats().Last.Seq - uint64(len(alive.seqs())); lag != 0 {
				t.Fatalf("the living sink lags %d events", lag)
			}
		}
		if d.journal.Stats().Bytes == 0 {
			t.Error("events that a required sink lacks were let go")
		}
		began := time.Now()
		d.detach(a, 5*time.Second)
		if err := d.Destruct(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the end took %v, want shutdown_flush of 5s", took)
		}
	})
}

func TestNewBindingIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &script{answer: func(int, Batch) error { return fault(Gone, 0, "gone") }}
		d, a := testDesk(&sinkEntry{name: "s", sink: gone})
		if _, err := d.attach(a); err != nil {
			t.Fatal(err)
		}
		put(t, d, 5)
		time.Sleep(time.Hour)
		gone.mu.Lock()
		if gone.tries != 1 {
			t.Errorf("a sink that is gone was asked %d times", gone.tries)
		}
		gone.mu.Unlock()
		fresh := &script{}
		b := &App{Node: "gw", sinks: []*sinkEntry{{name: "s", sink: fresh}}, logger: zap.NewNop(), envelope: a.envelope, metadata: a.metadata, desk: d}
		b.pens.New = a.pens.New
		if _, err := d.attach(b); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := fresh.seqs(); !slices.Equal(got, upTo(5)) {
			t.Errorf("the new sink has %v, want 1 to 5", got)
		}
		d.detach(a, time.Second)
		d.detach(b, time.Second)
		if err := d.Destruct(); err != nil {
			t.Error(err)
		}
	})
}

func TestLossIsToldOnceThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := false
		s := &script{answer: func(int, Batch) error {
			if !open {
				return errors.New("down")
			}
			return nil
		}}
		d, a := testDesk(&sinkEntry{name: "s", sink: s})
		if _, err := d.attach(a); err != nil {
			t.Fatal(err)
		}
		payload := []byte(`{"type":"` + strings.Repeat("x", 1000) + `"}`)
		kept, lost := 0, 0
		for lost < 50 {
			if _, err := d.put(auth, time.Now(), payload); err == nil {
				kept++
			} else if errors.Is(err, spool.ErrFull) {
				lost++
			} else {
				t.Fatal(err)
			}
		}
		if _, err := d.put(limit, time.Now(), payload); !errors.Is(err, spool.ErrFull) {
			t.Errorf("a lesser class still finds room: %v", err)
		}
		if _, err := d.put(admin, time.Now(), payload); err != nil {
			t.Errorf("a better class finds no room: %v", err)
		}
		s.mu.Lock()
		open = true
		s.mu.Unlock()
		time.Sleep(2 * time.Minute)
		// The gap event is a record like any other: kept, one admin event, the gap.
		if got := len(s.seqs()); got != kept+2 {
			t.Errorf("the sink has %d events, want %d", got, kept+2)
		}
		if d.lostSince.Load() != 0 || d.lost[auth].Load() != 0 || d.lost[limit].Load() != 0 {
			t.Errorf("losses still to be told: auth %d, limit %d", d.lost[auth].Load(), d.lost[limit].Load())
		}
		d.detach(a, time.Second)
		if err := d.Destruct(); err != nil {
			t.Error(err)
		}
	})
}

// nowhere is a sink that takes everything and keeps nothing.
type nowhere struct{}

func (*nowhere) Deliver(context.Context, Batch) error { return nil }
