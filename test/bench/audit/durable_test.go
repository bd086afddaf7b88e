// Package audit measures the spool beside logs that others have written: how
// many events a second reach the disk when every caller waits for its own. The
// peers get the same group commit in front, so that what differs is the log.
//
//	go test -bench . -benchtime 3s
package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// log is what is measured: append returns once the event is durable.
type log interface {
	append(payload []byte) error
	close() error
}

func BenchmarkDurable(b *testing.B) {
	for _, candidate := range []struct {
		name string
		open func(b *testing.B) log
	}{
		{"spool", openSpool}, {"raft-wal", openRaftWAL}, {"bbolt", openBolt},
	} {
		for _, callers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/callers=%d", candidate.name, callers), func(b *testing.B) {
				measure(b, candidate.open(b), callers)
			})
		}
	}
}

func measure(b *testing.B, l log, callers int) {
	payload := make([]byte, 1024)
	b.SetBytes(int64(len(payload)))
	b.ResetTimer()
	work := make(chan struct{}, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range work {
				if err := l.append(payload); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.StopTimer()
	if err := l.close(); err != nil {
		b.Error(err)
	}
}

type spoolLog struct{ *spool.Log }

func openSpool(b *testing.B) log {
	l, err := spool.Open(b.TempDir(), spool.Options{Node: "bench", Limit: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	return spoolLog{l}
}

func (s spoolLog) append(payload []byte) error {
	m, err := s.Append(5, time.Now(), payload)
	if err != nil {
		return err
	}
	if err := s.Sync(context.Background(), m); err != nil {
		return err
	}
	if m.Seq%100_000 == 0 {
		s.Release(m)
	}
	return nil
}

func (s spoolLog) close() error { return s.Log.Close() }

// grouped puts a group commit in front of a log that takes batches.
type grouped struct {
	mu      sync.Mutex
	waiting []waiter
	kick    chan struct{}
	done    chan struct{}
	store   func([][]byte) error
	shut    func() error
}

type waiter struct {
	payload []byte
	done    chan error
}

func group(store func([][]byte) error, shut func() error) *grouped {
	g := &grouped{kick: make(chan struct{}, 1), done: make(chan struct{}), store: store, shut: shut}
	go func() {
		defer close(g.done)
		for range g.kick {
			g.mu.Lock()
			batch := g.waiting
			g.waiting = nil
			g.mu.Unlock()
			if len(batch) == 0 {
				continue
			}
			payloads := make([][]byte, len(batch))
			for i := range batch {
				payloads[i] = batch[i].payload
			}
			err := g.store(payloads)
			for _, w := range batch {
				w.done <- err
			}
		}
	}()
	return g
}

func (g *grouped) append(payload []byte) error {
	w := waiter{payload, make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	select {
	case g.kick <- struct{}{}:
	default:
	}
	return <-w.done
}

func (g *grouped) close() error {
	close(g.kick)
	<-g.done
	return g.shut()
}

func openRaftWAL(b *testing.B) log {
	w, err := wal.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	var index uint64
	return group(func(payloads [][]byte) error {
		logs := make([]*raft.Log, len(payloads))
		for i, p := range payloads {
			index++
			logs[i] = &raft.Log{Index: index, Data: p}
		}
		return w.StoreLogs(logs)
	}, w.Close)
}

func openBolt(b *testing.B) log {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bolt.db"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	name := []byte("events")
	if err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(name)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	var seq uint64
	return group(func(payloads [][]byte) error {
		return db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(name)
			bucket.FillPercent = 1 // keys only grow
			for _, p := range payloads {
				seq++
				if err := bucket.Put(binary.BigEndian.AppendUint64(nil, seq), p); err != nil {
					return err
				}
			}
			return nil
		})
	}, db.Close)
}
