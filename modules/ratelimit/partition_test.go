package ratelimit

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// Two of four gateways lose Redis, the others do not. Those cut off go on with
// twice their even share each, and when the network heals they report it: the
// caller pays for what it had too much.
func TestPartitionOfSomeGatewaysIsBounded(t *testing.T) {
	const gateways, cutOff, burst, perSecond = 4, 2, 100.0, 200.0
	for name, part := range map[string]func(*testing.T, *proxy){
		"refused": func(_ *testing.T, p *proxy) { p.Stop() },
		"silent":  func(t *testing.T, p *proxy) { p.poison(t, stall) },
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			var proxies []*proxy
			var handlers []*Handler
			for i := range gateways {
				proxies = append(proxies, newProxy(t, server.Addr))
				h := hasty(t, proxies[i].addr, fmt.Sprintf(`{"gateways":%d,"rate_limits":{%q:{"key":"all","rate":"200/1s","burst":100}}}`, gateways, zoneName(t)))
				handlers = append(handlers, h)
			}
			var admitted [gateways]atomic.Int64
			quit := make(chan struct{})
			var clients sync.WaitGroup
			for i, h := range handlers {
				for range 2 {
					clients.Go(func() {
						for {
							select {
							case <-quit:
								return
							default:
							}
							one := decide(h, arrival{cost: 1})
							if one.admitted {
								admitted[i].Add(1)
							}
							time.Sleep(500 * time.Microsecond) // paces the client; nothing waits for it
						}
					})
				}
			}
			// count runs until done says so and returns what was admitted and how long that took.
			count := func(done func(since time.Duration) bool) (all, apart int64, took time.Duration) {
				began := time.Now()
				for i := range admitted {
					admitted[i].Store(0)
				}
				waitFor(t, func() bool { return done(time.Since(began)) })
				for i := range admitted {
					all += admitted[i].Load()
					if i < cutOff {
						apart += admitted[i].Load()
					}
				}
				return all, apart, time.Since(began)
			}
			// The first burst is gone when the partition begins.
			count(func(d time.Duration) bool { return d > time.Second })
			for _, p := range proxies[:cutOff] {
				part(t, p)
			}
			all, apart, took := count(func(d time.Duration) bool {
				down := 0
				for _, h := range handlers[:cutOff] {
					down += len(h.ledger.Down())
				}
				return d > 2*time.Second && down == cutOff
			})
			t.Logf("apart for %v: %d admitted, %d of them by those cut off", took, all, apart)
			filled := perSecond * took.Seconds()
			share := 2.0 / gateways * (filled + burst)
			if most := (1+alpha)*burst + filled + cutOff*share; float64(all) > most {
				t.Errorf("in a partition of %v %d are admitted, want at most %.0f", took, all, most)
			}
			if apart == 0 || float64(apart) > cutOff*share {
				t.Errorf("the gateways cut off admitted %d, want some and at most %.0f", apart, cutOff*share)
			}
			for _, p := range proxies[:cutOff] {
				p.heal(t)
			}
			all, _, took = count(func(d time.Duration) bool {
				down := 0
				for _, h := range handlers {
					down += len(h.ledger.Down())
				}
				return d > 2*time.Second && down == 0
			})
			close(quit)
			clients.Wait()
			t.Logf("healed for %v: %d admitted", took, all)
			// Until they hear that Redis is back those cut off may go on for a while:
			// their share of what comes in meanwhile, but no second burst.
			if most := alpha*burst + (1+cutOff*2.0/gateways)*perSecond*took.Seconds(); float64(all) > most {
				t.Errorf("in the %v after the partition %d are admitted, want at most %.0f: nobody gets a second burst", took, all, most)
			}
		})
	}
}
