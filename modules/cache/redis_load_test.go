package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// TestLoadOfTwoGateways has the load of TestLoad on two gateways with one
// Redis, which dies and comes back in the middle, while either orders purges.
// No answer may be another's or a part; and after the last purge neither
// gateway serves what was made before it.
func TestLoadOfTwoGateways(t *testing.T) {
	for _, sole := range []bool{false, true} {
		t.Run(fmt.Sprintf("redis_only %t", sole), func(t *testing.T) {
			server := redistest.Start(t)
			var serial atomic.Int64
			gateways := make([]*kitchen, 2)
			for i := range gateways {
				k := branch(t, server.Addr, "load", strconv.Itoa(i))
				k.h.RedisOnly, k.h.MaxObject, k.h.MaxVariants = sole, 65536, 3
				k.h.second.patience = time.Second
				k.origin = moody(&serial)
				gateways[i] = k
			}
			answered := loadAll(t, gateways, server)
			if answered < 10 {
				t.Errorf("only %d whole answers were checked", answered)
			}
			until(t, "Redis is used again", func() bool {
				return gateways[0].h.larder.peers.Load().tell(t.Context(), &purge{Tag: []string{"none"}}) == nil
			})
			mark := serial.Load()
			all := &purge{All: true}
			gateways[0].h.larder.purge(all, time.Now(), "admin")
			if err := gateways[0].h.larder.peers.Load().tell(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			last, err := gateways[0].h.second.redis.XRevRangeN(t.Context(), gateways[0].h.larder.peers.Load().stream(), "+", "-", 1).Result()
			if err != nil || len(last) != 1 {
				t.Fatal(last, err)
			}
			for i, k := range gateways {
				// Writes of the load may still be told, so others may follow it.
				until(t, "the last purge is heard", func() bool {
					heard := k.h.larder.heard()
					return heard != "" && !later(last[0].ID, heard)
				})
				for path := range 4 {
					for variant := range 3 {
						if n := k.serial(fmt.Sprint("/", path), strconv.Itoa(variant)); n != 0 && n <= mark {
							t.Errorf("gateway %d serves answer %d, which was purged at %d", i, n, mark)
						}
					}
				}
			}
		})
	}
}

// loadAll plays the load and returns how many answers were whole.
func loadAll(t *testing.T, gateways []*kitchen, server *redistest.Server) int64 {
	var guests sync.WaitGroup
	var answered atomic.Int64
	ctx, end := context.WithTimeout(t.Context(), 4*time.Second)
	defer end()
	for _, k := range gateways {
		for range 12 {
			guests.Go(func() {
				for ctx.Err() == nil {
					if k.visitOnce(t) {
						answered.Add(1)
					}
				}
			})
		}
		guests.Go(func() {
			for ctx.Err() == nil {
				o := orders[rand.IntN(len(orders))]
				k.h.larder.purge(o, time.Now(), "admin")
				_ = k.h.larder.peers.Load().tell(ctx, o) // Redis may be down
			}
		})
	}
	for _, do := range []func(){server.Stop, server.Restart} {
		before := answered.Load()
		until(t, "the load goes on", func() bool { return answered.Load() > before+20 || ctx.Err() != nil })
		do()
	}
	guests.Wait()
	return answered.Load()
}

// serial is the number of the answer to a request; 0 where it failed.
func (k *kitchen) serial(path, variant string) int64 {
	w, ok := k.ask("GET", path, variant)
	if !ok {
		return 0
	}
	words := strings.SplitN(w.Body.String(), " ", 4)
	n, _ := strconv.ParseInt(words[2], 10, 64)
	return n
}
