// Package ratelimit compares decisions in Redis: ours in batches, one EVALSHA
// per request, and go-redis/redis_rate. Besides the time of an operation each
// prints the processor time that one decision costs here and in redis-server.
package ratelimit

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

const (
	keys    = 1024
	callers = 64 // per processor
)

var limit = gcra.Of(1000, time.Second, 1000)

func options(addr string) *redis.Options {
	return &redis.Options{
		Addr: addr, MaxRetries: -1, PoolSize: 64, DialerRetries: 1,
		DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
	}
}

// measure runs decide from many callers and reports what it costs.
func measure(b *testing.B, server *redistest.Server, decide func(key string) error) {
	b.Helper()
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("bench:{%04d}:key", i)
	}
	var next atomic.Uint64
	b.ReportAllocs()
	b.SetParallelism(callers)
	redisBefore, ownBefore, began := server.CPU(), ownCPU(), time.Now()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := decide(names[next.Add(1)%keys]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	n := float64(b.N)
	spent := (server.CPU() - redisBefore).Seconds()
	b.ReportMetric(float64((ownCPU()-ownBefore).Nanoseconds())/n, "gateway-cpu-ns/op")
	b.ReportMetric(spent*1e9/n, "redis-cpu-ns/op")
	b.ReportMetric(n/spent, "decisions/redis-core-s")
	b.ReportMetric(n/time.Since(began).Seconds(), "decisions/s")
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// take is one decision that waits for Redis.
type take struct {
	key  string
	done chan error
}

func (t *take) Fill(c *ledger.Call) bool {
	c.Reset(ledger.GCRA)
	c.Item(t.key, limit.Every, limit.Depth, 1, 1, 0, 0, 0, 0, 0, 0)
	return true
}

func (t *take) Settle(_ []float64, err error) { t.done <- err }
func (t *take) Reject()                       { t.done <- ledger.ErrClosed }

func BenchmarkOursBatched(b *testing.B) {
	server := redistest.Start(b)
	client := redis.NewClient(options(server.Addr))
	defer client.Close()
	l := ledger.New(client, "bench:", nil)
	l.Start()
	defer l.Stop()
	<-l.Asked()
	measure(b, server, func(key string) error {
		t := &take{key, make(chan error, 1)}
		if !l.Send(key, t, true) {
			return ledger.ErrClosed
		}
		return <-t.done
	})
}

// debit is a decision that was made here and that Redis is told of.
type debit struct {
	key  string
	left *atomic.Int64
}

func (d *debit) Fill(c *ledger.Call) bool {
	c.Reset(ledger.GCRA)
	c.Item(d.key, limit.Every, limit.Depth, 0, 0, 1, 500, c.ServerTime(time.Now()), 0, 0, 0)
	return true
}

func (d *debit) Settle([]float64, error) { d.left.Add(-1) }
func (d *debit) Reject()                 { d.left.Add(-1) }

func BenchmarkOursDebits(b *testing.B) {
	server := redistest.Start(b)
	client := redis.NewClient(options(server.Addr))
	defer client.Close()
	l := ledger.New(client, "bench:", nil)
	l.Start()
	defer l.Stop()
	<-l.Asked()
	var underway atomic.Int64
	measure(b, server, func(key string) error {
		for underway.Load() > 4096 {
			time.Sleep(50 * time.Microsecond) // bounds what is queued
		}
		underway.Add(1)
		if !l.Send(key, &debit{key, &underway}, false) {
			return ledger.ErrClosed
		}
		return nil
	})
}

func BenchmarkUnbatchedEvalSha(b *testing.B) {
	server := redistest.Start(b)
	client := redis.NewClient(options(server.Addr))
	defer client.Close()
	sha, err := client.ScriptLoad(context.Background(), ledger.GCRA.Text()).Result()
	if err != nil {
		b.Fatal(err)
	}
	measure(b, server, func(key string) error {
		return client.EvalSha(context.Background(), sha, []string{key}, packed(limit.Every, limit.Depth, 1, 1, 0, 0, 0, 0, 0, 0)).Err()
	})
}

func packed(numbers ...float64) (b []byte) {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(n))
	}
	return b
}

func BenchmarkRedisRate(b *testing.B) {
	server := redistest.Start(b)
	client := redis.NewClient(options(server.Addr))
	defer client.Close()
	limiter := redis_rate.NewLimiter(client)
	measure(b, server, func(key string) error {
		_, err := limiter.Allow(context.Background(), key, redis_rate.PerSecond(1000))
		return err
	})
}
