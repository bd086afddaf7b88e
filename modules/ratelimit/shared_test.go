package ratelimit

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// gateway is one handler that shares its limits through server, as a process
// of its own would. It is patient: a busy machine is no outage.
func gateway(t testing.TB, addr string, config string) *Handler {
	t.Helper()
	h := through(t, addr, config, 10*time.Second)
	h.patience = 10 * time.Second
	return h
}

// hasty is a gateway with the product's own patience.
func hasty(t testing.TB, addr string, config string) *Handler {
	t.Helper()
	return through(t, addr, config, 500*time.Millisecond)
}

func through(t testing.TB, addr, config string, timeout time.Duration) *Handler {
	t.Helper()
	h := provisionedStore(t, config, "memory")
	client := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, PoolSize: 8,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
	})
	h.share(ledger.New(client, "test:rl:", nil))
	h.ledger.Start()
	t.Cleanup(func() {
		h.ledger.Stop()
		_ = client.Close()
	})
	<-h.ledger.Asked()
	return h
}

// share moves the handler's zones to l, each with a table of its own.
func (h *Handler) share(l *ledger.Ledger) {
	h.ledger = l
	for _, z := range h.zones {
		made, _ := newTable()
		z.ledger, z.table = l, made.(*table)
	}
}

// stores runs one test against every store.
func stores(t *testing.T, run func(t *testing.T, open func(config string) *Handler)) {
	t.Run("memory", func(t *testing.T) {
		run(t, func(config string) *Handler { return provisioned(t, config) })
	})
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		run(t, func(config string) *Handler { return gateway(t, server.Addr, config) })
	})
}

func TestStoresAgree(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		name := zoneName(t)
		t.Run("a burst and no more", func(t *testing.T) {
			h := open(fmt.Sprintf(`{"rate_limits":{%q:{"key":"{http.request.host}","rate":"60/1h","burst":5}}}`, name+"1"))
			var got [2]int
			for range 12 {
				if serve(t, h, prepared("GET", "http://a.example/")).Code == 200 {
					got[0]++
				} else {
					got[1]++
				}
			}
			if got != [2]int{5, 7} {
				t.Errorf("admitted and refused %v of 12, want [5 7]", got)
			}
			if w := serve(t, h, prepared("GET", "http://b.example/")); w.Code != 200 {
				t.Errorf("another key gets %d, want 200", w.Code)
			}
		})
		t.Run("all zones or none", func(t *testing.T) {
			h := open(fmt.Sprintf(`{"rate_limits":{
				%q:{"key":"all","rate":"10/1h"},
				%q:{"key":"{http.request.host}","rate":"1/1h"}}}`, name+"wide", name+"narrow"))
			for i, want := range []int{200, 429, 429, 429} {
				if w := serve(t, h, prepared("GET", "http://a.example/")); w.Code != want {
					t.Errorf("request %d gets %d, want %d", i+1, w.Code, want)
				}
			}
			r := prepared("GET", "http://b.example/")
			serve(t, h, r)
			for _, z := range exchange.Of(r).Zones {
				if z.Name == name+"wide" && z.Remaining != 8 {
					t.Errorf("after 2 admitted and 3 refused requests the wide zone has %d left, want 8", z.Remaining)
				}
			}
		})
	})
}

func TestGatewaysShareOneLimit(t *testing.T) {
	for _, mode := range []string{"strict", "adaptive"} {
		t.Run(mode, func(t *testing.T) {
			server := redistest.Start(t)
			config := fmt.Sprintf(`{"gateways":4,"rate_limits":{%q:{"key":"all","rate":"400/1h","mode":%q}}}`, zoneName(t), mode)
			var gateways []*Handler
			for range 4 {
				gateways = append(gateways, gateway(t, server.Addr, config))
			}
			var admitted atomic.Int64
			var clients sync.WaitGroup
			for _, h := range gateways {
				for range 4 {
					clients.Go(func() {
						for range 100 {
							w := httptest.NewRecorder()
							if err := h.ServeHTTP(w, prepared("GET", "http://a.example/"), ok200); err != nil {
								t.Error(err)
							}
							if w.Code == 200 {
								admitted.Add(1)
							}
						}
					})
				}
			}
			clients.Wait()
			// All at once is the worst there is; what is promised is (1+alpha) bursts.
			over := float64(admitted.Load() - 400)
			if mode == "strict" && over != 0 || over < 0 || over > alpha*400 {
				t.Errorf("4 gateways admitted %d of 1600, limit 400", admitted.Load())
			}
			t.Logf("%s: admitted %d with a limit of 400", mode, admitted.Load())
		})
	}
}

func TestRedisDown(t *testing.T) {
	for _, c := range []struct {
		onError string
		want    map[int]int
	}{
		// Two gateways: each may admit its doubled even share, which is all.
		{"local", map[int]int{200: 10, 429: 20}},
		{"allow", map[int]int{200: 30}},
		{"deny", map[int]int{503: 30}},
	} {
		t.Run(c.onError, func(t *testing.T) {
			server := redistest.Start(t)
			config := fmt.Sprintf(`{"gateways":2,"rate_limits":{%q:{"key":"all","rate":"10/1h","on_error":%q}}}`, zoneName(t), c.onError)
			h := hasty(t, server.Addr, config)
			server.Stop()
			got := map[int]int{}
			var slowest time.Duration
			for range 30 {
				began := time.Now()
				w := serve(t, h, prepared("GET", "/"))
				slowest = max(slowest, time.Since(began))
				got[w.Code]++
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("answers are %v, want %v", got, c.want)
			}
			if slowest > 5*time.Second {
				t.Errorf("the slowest request took %v, want about %v at most", slowest, patience)
			}
		})
	}
}

func TestOutageIsPaidBack(t *testing.T) {
	server := redistest.Start(t)
	config := fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"20/1h"}}}`, zoneName(t))
	h := hasty(t, server.Addr, config)
	for range 5 {
		serve(t, h, prepared("GET", "/"))
	}
	idle := func() bool { return h.zones[0].account("all", instant(time.Now()), h.zones[0].rule).idle() }
	waitFor(t, idle) // what is on its way when Redis dies is nobody's to charge again
	server.Stop()
	for range 7 {
		if w := serve(t, h, prepared("GET", "/")); w.Code != 200 {
			t.Fatalf("during the outage a request within the limit gets %d", w.Code)
		}
	}
	waitFor(t, func() bool { return len(h.ledger.Down()) == 1 })
	server.Restart() // and it has forgotten everything
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	waitFor(t, func() bool {
		return len(h.ledger.Down()) == 0 && client.Get(context.Background(), "test:rl:{gateways}:secret").Err() == nil
	})
	waitFor(t, idle)
	other := gateway(t, server.Addr, config)
	var admitted int
	for range 30 {
		if serve(t, other, prepared("GET", "/")).Code == 200 {
			admitted++
		}
	}
	if admitted != 8 {
		t.Errorf("after the outage %d more are admitted, want 8: 12 of 20 are used", admitted)
	}
}

// waitFor polls, because the server is a process of its own and tells nobody.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not happen within 60 s")
		case <-tick.C:
		}
	}
}

func TestAlgorithms(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		for _, c := range []struct {
			name, zone string
			want       int
		}{
			{"gcra", `"rate":"6/1h"`, 6},
			{"sliding_log", `"algorithm":"sliding_log","rate":"6/1h"`, 6},
			{"community", `"max_events":6,"window":3600000000000`, 6},
			{"fixed_window", `"algorithm":"fixed_window","rate":"6/month","timezone":"America/New_York"`, 6},
			{"cost", `"rate":"12/1h","cost":"2"`, 6},
			{"cost of a log", `"algorithm":"sliding_log","rate":"12/1h","cost":"2"`, 6},
			{"concurrency that is freed", `"algorithm":"concurrency","rate":"1"`, 20},
		} {
			t.Run(c.name, func(t *testing.T) {
				h := open(fmt.Sprintf(`{"rate_limits":{%q:{"key":"all",%s}}}`, zoneName(t), c.zone))
				var got int
				for range 20 {
					if serve(t, h, prepared("GET", "/")).Code == 200 {
						got++
					}
				}
				if got != c.want {
					t.Errorf("%d of 20 are admitted, want %d", got, c.want)
				}
			})
		}
	})
}

// Zones of one caller travel in one script, zones of different callers apart.
func TestZonesOfEveryKindChargeAllOrNone(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		for _, key := range []string{"all", "other"} {
			name := zoneName(t) + key
			h := open(fmt.Sprintf(`{"rate_limits":{
				"%[1]s-a":{"key":"all","rate":"10/1h"},
				"%[1]s-b":{"key":"all","algorithm":"sliding_log","rate":"10/1h"},
				"%[1]s-c":{"key":"all","algorithm":"fixed_window","rate":"10/month"},
				"%[1]s-d":{"key":"all","algorithm":"concurrency","rate":"10"},
				"%[1]s-e":{"key":"%[2]s","rate":"3/1h"}}}`, name, key))
			var admitted int
			var last map[string]int64
			for range 8 {
				r := prepared("GET", "/")
				if serve(t, h, r).Code == 200 {
					admitted++
				}
				last = map[string]int64{}
				for _, z := range exchange.Of(r).Zones {
					last[z.Name[len(name):]] = z.Remaining
				}
			}
			if admitted != 3 {
				t.Errorf("key %s: %d are admitted, want 3", key, admitted)
			}
			want := map[string]int64{"-a": 7, "-b": 7, "-c": 7, "-d": 10, "-e": 0}
			late := []string{"-d"} // the last request's place may not be free yet
			if key == "other" {
				late = []string{"-a", "-b", "-c", "-d"} // read while Redis takes back what is refunded
				for _, z := range h.zones[:3] {
					waitFor(t, func() bool {
						status, err := peekKey(context.Background(), z, "all")
						return err == nil && status.(keyStatus).Remaining == 7
					})
				}
			}
			for _, zone := range late {
				delete(want, zone)
				delete(last, zone)
			}
			if diff := cmp.Diff(want, last); diff != "" {
				t.Errorf("key %s: left after 3 admitted and 5 refused (-want +got):\n%s", key, diff)
			}
		}
	})
}

func TestConcurrencyHoldsPlaces(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		h := open(fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","algorithm":"concurrency","rate":"2"}}}`, zoneName(t)))
		enter, leave := make(chan struct{}), make(chan struct{})
		var inside sync.WaitGroup
		for range 2 {
			inside.Go(func() {
				_ = h.ServeHTTP(httptest.NewRecorder(), prepared("GET", "/"), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
					enter <- struct{}{}
					<-leave
					return nil
				}))
			})
			<-enter
		}
		w := serve(t, h, prepared("GET", "/"))
		if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("with both places taken the answer is %d %v, want 429 and Retry-After 1", w.Code, w.Header())
		}
		close(leave)
		inside.Wait()
		waitFor(t, func() bool { return serve(t, h, prepared("GET", "/")).Code == 200 })
		func() {
			defer func() { _ = recover() }()
			_ = h.ServeHTTP(httptest.NewRecorder(), prepared("GET", "/"), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
				panic(http.ErrAbortHandler)
			}))
		}()
		waitFor(t, func() bool { return serve(t, h, prepared("GET", "/")).Code == 200 })
	})
}

func TestResponseCost(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		h := open(fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"100/1h","response_cost":"X-Tokens"}}}`, zoneName(t)))
		costs := func(tokens string) int64 {
			r := prepared("GET", "/")
			_ = h.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("X-Tokens", tokens)
				return nil
			}))
			return exchange.Of(r).Zones[0].Remaining
		}
		costs("70")
		if got := costs("0"); got != 29 {
			t.Errorf("after an answer that cost 70 there are %d left within the next request, want 29", got)
		}
		if got := costs("1"); got != 29 {
			t.Errorf("after an answer that cost nothing there are %d left within the next request, want 29", got)
		}
	})
}

func TestDryRunRefusesNobody(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		h := open(fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","rate":"2/1h","dry_run":true},%q:{"key":"all","rate":"5/1h"}}}`, zoneName(t)+"-trial", zoneName(t)))
		var codes []int
		results := map[string]int{}
		for range 7 {
			r := prepared("GET", "/")
			codes = append(codes, serve(t, h, r).Code)
			for _, z := range exchange.Of(r).Zones {
				results[z.Name[len(zoneName(t)):]+" "+z.Result]++
			}
		}
		if diff := cmp.Diff([]int{200, 200, 200, 200, 200, 429, 429}, codes); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if results["-trial dry_refused"] < 3 || results["-trial refused"] > 0 {
			t.Errorf("decisions are %v, want at least 3 dry refusals and no refusal on trial", results)
		}
	})
}
