package ratelimit

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What a zone with Redis costs the gateway and Redis, from gather to answer,
// all in: the account, the queue, the batch, the wait.
func BenchmarkDecideOnRedis(b *testing.B) {
	for _, mode := range []string{"strict", "adaptive"} {
		b.Run(mode, func(b *testing.B) {
			server := redistest.Start(b)
			client := redis.NewClient(&redis.Options{
				Addr: server.Addr, MaxRetries: -1, PoolSize: 8, DialerRetries: 1,
				ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
			})
			h := provisionedStore(b, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"1000000/1s","mode":%q}}}`, zoneName(b), mode), "memory")
			h.share(ledger.New(client, "bench:", nil))
			h.ledger.Start()
			defer client.Close()
			defer h.ledger.Stop()
			h.patience = 10 * time.Second
			<-h.ledger.Asked()
			var next, others atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(64)
			redisBefore, before := server.CPU(), ownCPU()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					one := decide(h, arrival{key: int(next.Add(1) % 1024), cost: 1})
					if one.waited != (mode == "strict") {
						others.Add(1)
					}
				}
			})
			b.StopTimer()
			n := float64(b.N)
			b.ReportMetric(float64((ownCPU()-before).Nanoseconds())/n, "gateway-cpu-ns/op")
			b.ReportMetric(float64((server.CPU()-redisBefore).Nanoseconds())/n, "redis-cpu-ns/op")
			b.ReportMetric(float64(others.Load())/n, "decided-otherwise/op")
		})
	}
}
