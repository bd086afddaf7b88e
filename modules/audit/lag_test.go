package audit

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What only an optional sink lacks is held for as long as it may lag, and no
// longer; the sink is then told what it has not got.
func TestOptionalSinkMayLag(t *testing.T) {
	for _, c := range []struct {
		name string
		dead time.Duration
		want int // events of the first ten that it gets
	}{
		{"shorter than it may", time.Minute, 10},
		{"longer than it may", 20 * time.Minute, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				slow := &script{answer: func(int, Batch) error {
					if time.Since(began) < c.dead {
						return errors.New("dead")
					}
					return nil
				}}
				alive := &script{}
				d, a := testDesk(&sinkEntry{name: "slow", sink: slow, optional: true, maxLag: 10 * time.Minute}, &sinkEntry{name: "alive", sink: alive})
				a.MaxBytes = 1 << 20
				if _, err := d.attach(a); err != nil {
					t.Fatal(err)
				}
				put(t, d, 10)
				time.Sleep(c.dead + 5*time.Minute)
				if held := d.journal.Stats().Bytes; held != 0 {
					t.Errorf("%d bytes are held after every sink has what it may have", held)
				}
				put(t, d, 1)
				time.Sleep(time.Minute)
				got := slices.DeleteFunc(slow.seqs(), func(n uint64) bool { return n > 10 })
				// What is in hand when the patience ends is delivered all the same.
				if len(got) < c.want || len(alive.seqs()) < 11 {
					t.Errorf("the slow sink has %v, the other %v", got, alive.seqs())
				}
				d.detach(a, time.Second)
				if err := d.Destruct(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// With drop_oldest the newest events have room, also those of the least class,
// and a required sink is told how many it has not got.
func TestOldestAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		s := &script{answer: func(int, Batch) error {
			if down {
				return errors.New("down")
			}
			return nil
		}}
		d, a := testDesk(&sinkEntry{name: "s", sink: s})
		a.DropOldest = true
		if _, err := d.attach(a); err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, 1000)
		for i := range payload {
			payload[i] = ' '
		}
		copy(payload, `{"type":"x"}`)
		for range 3000 {
			if _, err := d.put(activity, time.Now(), payload); err != nil {
				t.Fatalf("the newest event finds no room: %v", err)
			}
		}
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		down = false
		s.mu.Unlock()
		time.Sleep(3 * time.Minute)
		got := s.seqs()
		// What the limit holds, and perhaps the batch that was in hand all along.
		if len(got) < 900 || len(got) > 1600 || !slices.Contains(got, 3000) {
			t.Errorf("the sink has %d events, to %d", len(got), got[len(got)-1])
		}
		if last := d.journal.Stats().Last.Seq; last <= 3000 {
			t.Errorf("no event tells of what was given up: the last is %d", last)
		}
		if d.lostSince.Load() != 0 {
			t.Error("events count as dropped though the oldest were given up")
		}
		d.detach(a, time.Second)
		if err := d.Destruct(); err != nil {
			t.Error(err)
		}
	})
}
