package spool

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// BenchmarkAppend is what a request pays.
func BenchmarkAppend(b *testing.B) {
	l := benchLog(b)
	payload := make([]byte, 900)
	now := time.Now()
	b.ReportAllocs()
	var last Mark
	for b.Loop() {
		m, err := l.Append(5, now, payload)
		if err != nil {
			if err := l.Sync(b.Context(), last); err != nil {
				b.Fatal(err)
			}
			l.Release(last)
			continue
		}
		last = m
	}
}

// BenchmarkDurable is how many events a second reach the disk when every
// caller waits for its own.
func BenchmarkDurable(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			l := benchLog(b)
			payload := make([]byte, 1024)
			b.SetBytes(1024)
			b.ResetTimer()
			var wg sync.WaitGroup
			next := make(chan struct{}, callers)
			for range callers {
				wg.Go(func() {
					for range next {
						m, err := l.Append(5, time.Now(), payload)
						if err == nil {
							err = l.Sync(b.Context(), m)
						}
						if err != nil {
							b.Error(err)
							return
						}
						if m.Seq%4096 == 0 {
							l.Release(m)
						}
					}
				})
			}
			for range b.N {
				next <- struct{}{}
			}
			close(next)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkDrain is how fast a reader gets through what has gathered.
func BenchmarkDrain(b *testing.B) {
	l := benchLog(b)
	payload := make([]byte, 1024)
	var last Mark
	for range 100_000 {
		m, err := l.Append(5, time.Now(), payload)
		for err != nil {
			if err := l.Sync(b.Context(), last); err != nil {
				b.Fatal(err)
			}
			m, err = l.Append(5, time.Now(), payload)
		}
		last = m
	}
	if err := l.Sync(b.Context(), last); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(100_000 * 1024)
	var recs []Record
	for b.Loop() {
		r := l.Reader(Mark{})
		for {
			var more <-chan struct{}
			var err error
			recs, more, err = r.Read(500, 1<<20, recs)
			if err != nil {
				b.Fatal(err)
			}
			if more != nil {
				break
			}
		}
	}
}

func benchLog(b *testing.B) *Log {
	l, err := Open(b.TempDir(), Options{Node: "n", Limit: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}
