package spool

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// With DropOldest whole segments go to make room for what is new, in order, and
// what is left is sound.
func TestOldestSegmentsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrashFS()
		o := Options{Node: "n", Limit: 1 << 20, FS: c, DropOldest: true}
		l, err := Open("spool", o)
		if err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, 4000)
		payload[0] = '{'
		const records = 2000 // eight times the limit
		for n := 1; n <= records; {
			m, err := l.Append(0, time.Now(), payload)
			if errors.Is(err, ErrFull) {
				time.Sleep(time.Millisecond) // the committer is behind
				continue
			}
			if err != nil || m.Seq != uint64(n) {
				t.Fatalf("record %d: %v %v", n, m, err)
			}
			if n++; m.Seq%20 == 0 {
				if err := l.Sync(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				if used := l.Stats().Bytes; used > o.Limit {
					t.Fatalf("%d bytes are held, the limit is %d", used, o.Limit)
				}
			}
		}
		r := l.Reader(Mark{})
		var first, next uint64
		for {
			recs, more, err := r.Read(100, 1<<20, nil)
			if err != nil {
				t.Fatal(err)
			}
			if more != nil {
				break
			}
			for _, rec := range recs {
				if first == 0 {
					first, next = rec.Seq, rec.Seq
				}
				if rec.Seq != next {
					t.Fatalf("record %d follows %d", rec.Seq, next-1)
				}
				next++
			}
		}
		if next != records+1 || records-first < 150 || first < 1000 {
			t.Errorf("records %d to %d are left of %d", first, next-1, records)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if problems, err := Walk(c, "spool", func(string, Record, Hash) error { return nil }); err != nil || len(problems) > 0 {
			t.Errorf("walk: %v %v", err, problems)
		}
	})
}
