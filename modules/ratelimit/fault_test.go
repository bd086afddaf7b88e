package ratelimit

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// load sends requests from several clients until stop is closed, and tells how
// it went.
type load struct {
	mu      sync.Mutex
	codes   map[int]int
	sources map[string]int
	slowest time.Duration
	done    sync.WaitGroup
	stop    chan struct{}
}

func startLoad(h *Handler, clients int) *load {
	l := &load{codes: map[int]int{}, sources: map[string]int{}, stop: make(chan struct{})}
	for range clients {
		l.done.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				w, r, began := httptest.NewRecorder(), prepared("GET", "/"), time.Now()
				err := h.ServeHTTP(w, r, ok200)
				took := time.Since(began)
				l.mu.Lock()
				l.codes[w.Code]++
				l.sources[exchange.Of(r).Zones[0].Source]++
				if err != nil {
					l.codes[-1]++
				}
				l.slowest = max(l.slowest, took)
				l.mu.Unlock()
				time.Sleep(time.Millisecond) // paces the client; nothing waits for it
			}
		})
	}
	return l
}

func (l *load) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.codes {
		n += c
	}
	return n
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	for code := range l.codes {
		if code != 200 && code != 429 {
			t.Errorf("answers are %v, want 200 and 429 only", l.codes)
		}
	}
	// A busy machine adds to the 25 ms; a fault that reached the caller would
	// take the seconds of a client's timeout.
	if l.slowest > 5*time.Second {
		t.Errorf("the slowest request took %v, want about %v at most", l.slowest, patience)
	}
	t.Logf("%v, slowest %v", l.codes, l.slowest.Round(time.Millisecond))
}

func TestFaultsNeverReachTheCaller(t *testing.T) {
	for _, mode := range []string{"strict", "adaptive"} {
		for _, c := range []struct {
			name  string
			falls bool // back on what the gateway knows
			fault func(t *testing.T, p *proxy, s *redistest.Server, admin *redis.Client)
		}{
			{"slow 20 ms", true, func(t *testing.T, p *proxy, _ *redistest.Server, _ *redis.Client) { p.poison(t, slow20) }},
			{"slow 50 ms", true, func(t *testing.T, p *proxy, _ *redistest.Server, _ *redis.Client) { p.poison(t, slow50) }},
			{"slow 200 ms", true, func(t *testing.T, p *proxy, _ *redistest.Server, _ *redis.Client) { p.poison(t, slow200) }},
			{"stall", true, func(t *testing.T, p *proxy, _ *redistest.Server, _ *redis.Client) { p.poison(t, stall) }},
			{"answers cut off", true, func(t *testing.T, p *proxy, _ *redistest.Server, _ *redis.Client) { p.poison(t, cut) }},
			{"connections reset", true, func(t *testing.T, p *proxy, _ *redistest.Server, _ *redis.Client) { p.poison(t, reset) }},
			{"connections refused", true, func(_ *testing.T, p *proxy, _ *redistest.Server, _ *redis.Client) { p.Stop() }},
			{"killed", true, func(_ *testing.T, _ *proxy, s *redistest.Server, _ *redis.Client) { s.Stop() }},
			{"read only", true, func(t *testing.T, _ *proxy, _ *redistest.Server, admin *redis.Client) {
				must(t, admin.Do(context.Background(), "REPLICAOF", "127.0.0.1", "1").Err())
			}},
			{"out of memory", true, func(t *testing.T, _ *proxy, _ *redistest.Server, admin *redis.Client) {
				must(t, admin.ConfigSet(context.Background(), "maxmemory", "1").Err())
			}},
			{"scripts flushed", false, func(t *testing.T, _ *proxy, _ *redistest.Server, admin *redis.Client) {
				must(t, admin.ScriptFlush(context.Background()).Err())
			}},
			{"all flushed", false, func(t *testing.T, _ *proxy, _ *redistest.Server, admin *redis.Client) {
				must(t, admin.FlushAll(context.Background()).Err())
			}},
		} {
			t.Run(mode+" "+c.name, func(t *testing.T) {
				server := redistest.Start(t)
				p := newProxy(t, server.Addr)
				admin := redis.NewClient(&redis.Options{Addr: server.Addr})
				defer admin.Close()
				h := hasty(t, p.addr, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"2000/1s","mode":%q}}}`, zoneName(t), mode))
				l := startLoad(h, 8)
				waitFor(t, func() bool { return l.count() > 200 })
				c.fault(t, p, server, admin)
				before := l.count()
				waitFor(t, func() bool { return l.count() > before+300 })
				l.end(t)
				if mode == "strict" && c.falls && l.sources["fallback"] == 0 {
					t.Errorf("decisions come from %v; want some of the fallback", l.sources)
				}
			})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What was cut off between write and read may have been executed: it must not
// be sent again.
func TestCutAnswersDebitNothingTwice(t *testing.T) {
	for name, config := range map[string]string{"ours": "", "default retries": "retry"} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			p := newProxy(t, server.Addr)
			direct := redis.NewClient(&redis.Options{Addr: server.Addr})
			defer direct.Close()
			sent := 0
			if config == "" {
				h := hasty(t, p.addr, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"1000000/1h","mode":"strict"}}}`, zoneName(t)))
				serve(t, h, prepared("GET", "/")) // loads the script
				must(t, direct.ConfigResetStat(context.Background()).Err())
				p.poison(t, cut)
				serve(t, h, prepared("GET", "/"))
				sent = 1
			} else {
				// The control: the library's own settings send it several times.
				lib := redis.NewClient(&redis.Options{Addr: p.addr})
				defer lib.Close()
				must(t, lib.Ping(context.Background()).Err())
				must(t, direct.ConfigResetStat(context.Background()).Err())
				p.poison(t, cut)
				_ = lib.Eval(context.Background(), "return redis.call('INCR', KEYS[1])", []string{"k"}).Err()
				sent = 1
			}
			stats, err := direct.Info(context.Background(), "commandstats").Result()
			must(t, err)
			executed := 0
			for line := range strings.Lines(stats) {
				for _, command := range []string{"cmdstat_evalsha:calls=", "cmdstat_incr:calls="} {
					var n int
					if rest, ok := strings.CutPrefix(line, command); ok {
						_, _ = fmt.Sscanf(rest, "%d", &n)
						executed += n
					}
				}
			}
			figure(t, sent, " sent, ", executed, " executed")
			if twice := executed > sent; twice != (config != "") {
				t.Errorf("%d sent, %d executed", sent, executed)
			}
		})
	}
}

func TestBackSoonAfterAnOutage(t *testing.T) {
	server := redistest.Start(t)
	h := hasty(t, server.Addr, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"1000/1s","mode":"strict"}}}`, zoneName(t)))
	serve(t, h, prepared("GET", "/"))
	server.Stop()
	waitFor(t, func() bool { serve(t, h, prepared("GET", "/")); return len(h.ledger.Down()) == 1 })
	waited := time.NewTimer(1500 * time.Millisecond) // an outage of some length: the pauses between probes have grown
	<-waited.C
	server.Restart()
	began := time.Now()
	waitFor(t, func() bool { return len(h.ledger.Down()) == 0 })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Redis was used again %v after it was back, want about 1 s", took)
	}
}

// A stall must not cost a connection for each request that stops waiting.
func TestStallsOpenFewConnections(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr)
	h := hasty(t, p.addr, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"{http.request.host}","rate":"1000000/1s","mode":"strict"}}}`, zoneName(t)))
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	l := startLoad(h, 32)
	waitFor(t, func() bool { return l.count() > 500 })
	before := connections(t, admin)
	for range 4 {
		must(t, admin.Do(context.Background(), "CLIENT", "PAUSE", "60", "ALL").Err())
		n := l.count()
		waitFor(t, func() bool { return l.count() > n+500 })
	}
	l.end(t)
	if opened := connections(t, admin) - before; opened > 16 {
		t.Errorf("4 stalls of 60 ms opened %d connections, want a handful", opened)
	}
}

// connections is how many were opened since the server started.
func connections(t *testing.T, admin *redis.Client) (n int) {
	t.Helper()
	stats, err := admin.Info(context.Background(), "stats").Result()
	must(t, err)
	_, rest, _ := strings.Cut(stats, "total_connections_received:")
	_, err = fmt.Sscanf(rest, "%d", &n)
	must(t, err)
	return n
}
