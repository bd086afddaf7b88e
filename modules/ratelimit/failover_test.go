package ratelimit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// admissions counts what one caller is admitted, and minds that nobody gets
// anything but 200 and 429.
type admissions map[string]int

func (a admissions) ask(t *testing.T, h *Handler, host string) (source string) {
	t.Helper()
	r := prepared("GET", "http://"+host+"/")
	switch code := serve(t, h, r).Code; code {
	case 200:
		a[host]++
	case 429:
	default:
		t.Errorf("%s gets %d", host, code)
	}
	return exchange.Of(r).Zones[0].Source
}

func hosts(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("h%d.example", i))
	}
	return names
}

// A primary of a cluster dies for good and its replica is promoted. Nobody gets
// an error, nobody gets a second burst, and the shard's keys are Redis' again.
func TestClusterPromotesAReplica(t *testing.T) {
	for _, mode := range []string{"strict", "adaptive"} {
		t.Run(mode, func(t *testing.T) {
			cluster := redistest.StartCluster(t, 3, true)
			h, log := overCluster(t, cluster, mode)
			got := admissions{}
			callers := hosts(30) // on every shard
			for _, host := range callers {
				for range 6 {
					got.ask(t, h, host)
				}
			}
			replica, primary := cluster.Replicas[1].Admin(), cluster.Primaries[1].Admin()
			waitFor(t, func() bool { // what was admitted last is on its way to the replica
				for _, host := range callers {
					if !h.zones[0].account(host, instant(time.Now()), h.zones[0].rule).idle() {
						return false
					}
				}
				return primary.Wait(context.Background(), 1, time.Second).Val() == 1
			})

			cluster.Primaries[1].Stop()
			turn := 0
			waitFor(t, func() bool {
				for range 3 {
					turn++
					got.ask(t, h, callers[turn%len(callers)])
				}
				return redistest.IsPrimary(replica)
			})
			// A caller that was never seen must be decided by Redis, wherever it lies.
			fresh := 0
			waitFor(t, func() bool {
				fresh++
				asked := 0
				for i := range 30 {
					if (admissions{}).ask(t, h, fmt.Sprintf("new%d-%d.example", fresh, i)) == "redis" {
						asked++
					}
				}
				return asked == 30
			})
			for _, host := range callers {
				for range 10 {
					got.ask(t, h, host)
				}
				if got[host] != 10 {
					t.Errorf("over the failover %s is admitted %d times, want 10", host, got[host])
				}
			}
			if len(h.ledger.Down()) != 0 {
				t.Errorf("after the failover %v count as down", h.ledger.Down())
			}
			if !strings.Contains(log(), "redis does not answer") {
				t.Error("the log does not say that the shard was given up")
			}
		})
	}
}

// Without a replica the shard's keys fall back until it is there again.
func TestClusterLosesAShard(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, false)
	h, _ := overCluster(t, cluster, "strict")
	cluster.Primaries[1].Stop()
	sources := map[string]int{}
	n := 0
	waitFor(t, func() bool {
		n++
		sources[admissions{}.ask(t, h, fmt.Sprintf("h%d.example", n))]++
		return len(h.ledger.Down()) == 1 && sources["redis"] > 0 && sources["fallback"] > 0
	})
	cluster.Primaries[1].Restart()
	waitFor(t, func() bool { return len(h.ledger.Down()) == 0 })
}

func TestSentinelFailoverKeepsTheLimit(t *testing.T) {
	watched := redistest.StartWatched(t, "", "")
	h, _ := live(t, `redis {
		address `+watched.Sentinel.Addr+`
		sentinel main
	}`, `rate_limit {
		zone `+zoneName(t)+` {
			key all
			rate 10/1h
		}
		gateways 1
	}`)
	got := admissions{}
	for range 6 {
		got.ask(t, h, "a.example")
	}
	ctx := context.Background()
	replica, primary := watched.Replica.Admin(), watched.Primary.Admin()
	waitFor(t, func() bool {
		return h.zones[0].account("all", instant(time.Now()), h.zones[0].rule).idle() && primary.Wait(ctx, 1, time.Second).Val() == 1
	})
	watched.Primary.Stop()
	waitFor(t, func() bool {
		got.ask(t, h, "a.example")
		return redistest.IsPrimary(replica)
	})
	// The limit is used up by now, so the bucket lies in the new primary once
	// the gateway has told it.
	waitFor(t, func() bool {
		got.ask(t, h, "a.example")
		keys, err := replica.Keys(ctx, "*:"+zoneName(t)+":gcra").Result()
		return err == nil && len(keys) == 1 && len(h.ledger.Down()) == 0
	})
	for range 10 {
		got.ask(t, h, "a.example")
	}
	if got["a.example"] != 10 {
		t.Errorf("over a failover %d are admitted, want 10", got["a.example"])
	}
}

// What happens to Redis is told by the log, a fact and an event.
func TestOutageIsTold(t *testing.T) {
	server := redistest.Start(t)
	h, log := live(t, "redis limits redis://"+server.Addr, `rate_limit {
		zone `+zoneName(t)+` {
			key all
			rate 10/1h
			mode strict
		}
		store redis limits
	}`)
	for len(recorded) > 0 {
		<-recorded // of other tests
	}
	facts := make(chan exchange.Fact, 100)
	defer exchange.Listen("test", func(f exchange.Fact) {
		if f.Kind == exchange.CircuitChanged {
			facts <- f
		}
	})()
	expect := func(to, words string) {
		t.Helper()
		var e caddy.Event
		waitFor(t, func() bool {
			serve(t, h, prepared("GET", "/"))
			select {
			case e = <-recorded:
				return true
			default:
				return false
			}
		})
		if e.Data["to"] != to || e.Data["redis"] != "limits" || e.Data["shard"] != server.Addr || (to == "open") != (e.Data["cause"] != "") {
			t.Errorf("the event says %v, want %s of limits at %s", e.Data, to, server.Addr)
		}
		if f := <-facts; f.Code != to {
			t.Errorf("the fact says %s, want %s", f.Code, to)
		}
		if text := log(); !strings.Contains(text, words) || !strings.Contains(text, server.Addr) {
			t.Errorf("the log says %s, want %q and the server", text, words)
		}
	}
	server.Stop()
	expect("open", "redis does not answer")
	server.Restart()
	expect("closed", "redis answers again")
}

// The user that the page prints can do all that the limiter does, and nothing else.
func TestPrintedACLSuffices(t *testing.T) {
	t.Run("one server", func(t *testing.T) {
		server := redistest.Start(t)
		grant(t, server)
		sufficient(t, "redis redis://gateway:pass@"+server.Addr)
	})
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t, 3, false)
		for _, server := range cluster.Primaries {
			grant(t, server)
		}
		sufficient(t, "redis redis://gateway:pass@"+strings.Join(cluster.Addrs(), ",")+" {\ncluster\n}")
	})
}

// grant gives the gateway the printed rights and nothing else, and nobody else any.
func grant(t *testing.T, server *redistest.Server) {
	t.Helper()
	admin, ctx := server.Admin(), context.Background()
	must(t, admin.Do(ctx, append([]any{"ACL", "SETUSER", "gateway", "reset", "on", ">pass"}, printedACL(t)...)...).Err())
	must(t, admin.Do(ctx, "ACL", "SETUSER", "default", "off").Err())
	user := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "gateway", Password: "pass"})
	defer user.Close()
	for _, command := range [][]any{{"GET", "other"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}} {
		if err := user.Do(ctx, command...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%v is answered with %v, want NOPERM", command, err)
		}
	}
}

// sufficient runs every algorithm, a reset and the counting of gateways.
func sufficient(t *testing.T, option string) {
	t.Helper()
	ctx := context.Background()
	h, log := live(t, option, `rate_limit {
		zone a {
			key all
			rate 1000/1h
		}
		zone b {
			key all
			algorithm sliding_log
			rate 1000/1h
		}
		zone c {
			key all
			algorithm fixed_window
			rate 1000/day
		}
		zone d {
			key all
			algorithm concurrency
			rate 10
		}
	}`)
	waitFor(t, func() bool { return admissions{}.ask(t, h, "first.example") == "redis" })
	for range 4 {
		r := prepared("GET", "/")
		serve(t, h, r)
		for _, z := range exchange.Of(r).Zones {
			if z.Result != "allowed" || z.Source == "fallback" {
				t.Errorf("zone %s: %s by %s, want allowed and no fallback\n%s", z.Name, z.Result, z.Source, log())
			}
		}
	}
	if h.ledger.Gateways() != 1 {
		t.Errorf("%d gateways are counted, want 1", h.ledger.Gateways())
	}
	for _, z := range h.zones[:3] {
		if _, err := resetKey(ctx, z, "all"); err != nil {
			t.Errorf("reset of zone %s: %v", z.name, err)
		}
	}
}
