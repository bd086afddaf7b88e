package cache

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// branch is a kitchen with a memory of its own and a tier in Redis that it
// shares with the others of its name.
func branch(t *testing.T, address, name, node string) *kitchen {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DialTimeout: 200 * time.Millisecond, DialerRetries: 1})
	return branchOf(t, client, name, node)
}

func branchOf(t *testing.T, client redis.UniversalClient, name, node string) *kitchen {
	t.Helper()
	t.Cleanup(func() { _ = client.Close() })
	k := stock(t, fmt.Sprintf(`{"name":%q,"redis":"default"}`, name+node))
	l, err := newLarder(name+node, name, 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Destruct() })
	_ = k.h.larder.release()
	k.h.Name, k.h.larder, k.h.holding = name, l, false
	k.h.RedisMaxObject = 1 << 20
	k.h.second = &second{redis: client, name: name, limit: 1 << 20, most: 8, patience: 20 * time.Second}
	p := &peers{redis: client, larder: l, second: k.h.second, node: node}
	l.peers.Store(p)
	k.app.work.Go(func() { p.listen(k.app.ctx) })
	return k
}

// until asks again and again, for up to half a minute.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited 30 s in vain: %s", what)
		}
	}
}

// inRedis is how many URLs lie in Redis.
func (k *kitchen) inRedis() int {
	keys, _ := k.h.second.redis.Keys(context.Background(), "sallyport:cache:{*").Result()
	return len(keys)
}

func hit(k *kitchen, path string, fields ...string) bool {
	return strings.Contains(k.do("GET", "http://a.example"+path, fields...).Header().Get("Cache-Status"), "; hit")
}

func TestGatewaysShareWhatIsKept(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "shared", "1"), branch(t, server.Addr, "shared", "2")
	body := strings.Repeat("compress me ", 1000)
	one.answers(200, body, "Cache-Control: max-age=600", "Vary: X-V", "Surrogate-Key: t1", "X-Own: 1")
	two.answers(200, "of its own", "Cache-Control: max-age=600")
	one.do("GET", "http://a.example/x", "X-V: 1")
	until(t, "the answer is in Redis", func() bool { return one.inRedis() == 1 })
	w := two.do("GET", "http://a.example/x", "X-V: 1")
	if w.Body.String() != body || w.Header().Get("X-Own") != "1" || w.Header().Get("Age") == "" {
		t.Errorf("the second gateway answers %.40q… %v", w.Body, w.Header())
	}
	two.expect(0, "the first one's answer lies in Redis")
	if two.do("GET", "http://a.example/x", "X-V: 2").Body.String() != "of its own" {
		t.Error("another variant is served from Redis")
	}
}

func TestPurgesReachAllGateways(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "purged", "1"), branch(t, server.Addr, "purged", "2")
	for _, k := range []*kitchen{one, two} {
		k.answers(200, "x", "Cache-Control: max-age=600", "Surrogate-Key: t1")
	}
	fill := func() {
		for _, path := range []string{"/a", "/b"} {
			one.do("GET", "http://a.example"+path)
			two.do("GET", "http://a.example"+path)
		}
	}
	for _, o := range []*purge{{Tag: []string{"t1"}}, {URL: []string{"http://a.example/a", "http://a.example/b"}}, {Prefix: []string{"http://a.example/"}}, {All: true}} {
		fill()
		before := two.h.larder.heard()
		one.h.larder.purge(o, time.Now(), "admin")
		if err := one.h.larder.peers.Load().tell(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		until(t, fmt.Sprintf("the second gateway hears of %+v", o), func() bool { return two.h.larder.heard() != before })
		for _, k := range []*kitchen{one, two} {
			for _, path := range []string{"/a", "/b"} {
				if hit(k, path) {
					t.Errorf("%s is still served after %+v", path, o)
				}
			}
		}
	}
	// One that comes later does not bring back what lies in Redis since before.
	three := branch(t, server.Addr, "purged", "3")
	three.answers(200, "x", "Cache-Control: max-age=600")
	until(t, "the third gateway catches up", func() bool { return three.h.larder.heard() == two.h.larder.heard() })
}

func TestAWriteStrikesAtAllGateways(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "written", "1"), branch(t, server.Addr, "written", "2")
	one.answers(200, "x", "Cache-Control: max-age=600")
	two.answers(200, "x", "Cache-Control: max-age=600")
	one.do("GET", "http://a.example/x")
	until(t, "the answer is in Redis", func() bool { return one.inRedis() == 1 })
	if !hit(two, "/x") {
		t.Fatal("the second gateway does not share")
	}
	one.do("POST", "http://a.example/x")
	until(t, "the second gateway has dropped it", func() bool {
		variants := two.h.larder.memory.Get("http://a.example/x\nwritten\n")
		return len(variants) == 0
	})
	if one.inRedis() != 0 && !hit(two, "/x") {
		t.Error("the write has not struck what lies in Redis")
	}
}

func TestRedisThatDiesIsAMiss(t *testing.T) {
	server := redistest.Start(t)
	k := branch(t, server.Addr, "dies", "1")
	k.answers(200, "x", "Cache-Control: max-age=600")
	k.do("GET", "http://a.example/a")
	until(t, "the answer is in Redis", func() bool { return k.inRedis() == 1 })
	server.Stop()
	before := testutil.ToFloat64(secondTier.WithLabelValues("dies", "error"))
	for i := range 200 {
		if w := k.do("GET", fmt.Sprint("http://a.example/after/", i)); w.Code != http.StatusOK || w.Body.String() != "x" {
			t.Fatalf("with Redis dead: %d %q", w.Code, w.Body)
		}
	}
	if errs := testutil.ToFloat64(secondTier.WithLabelValues("dies", "error")) - before; errs == 0 || errs > 100 {
		t.Errorf("200 requests saw Redis fail %v times, want a few: after one it is left alone", errs)
	}
	if !hit(k, "/a") {
		t.Error("what memory holds is not served")
	}
	server.Restart()
	until(t, "Redis is used again", func() bool {
		k.do("GET", fmt.Sprint("http://a.example/again/", time.Now().UnixNano()))
		return k.inRedis() > 0
	})
}

func TestOrdersThatWereLostDropEverything(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "gap", "1"), branch(t, server.Addr, "gap", "2")
	two.answers(200, "x", "Cache-Control: max-age=600")
	if err := one.h.larder.peers.Load().tell(t.Context(), &purge{Tag: []string{"t"}}); err != nil {
		t.Fatal(err)
	}
	until(t, "the order is heard", func() bool { return two.h.larder.heard() != "" })
	two.do("GET", "http://a.example/x")
	if err := one.h.second.redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "everything is dropped", func() bool {
		return two.h.larder.memory.Get("http://a.example/x\ngap\n") == nil
	})
}

// TestAWriteStrikesWhatCameFromRedis: no request of this gateway brought it in.
func TestAWriteStrikesWhatCameFromRedis(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "struck", "1"), branch(t, server.Addr, "struck", "2")
	for _, k := range []*kitchen{one, two} {
		k.answers(200, "x", "Cache-Control: max-age=600")
	}
	one.do("GET", "http://a.example/x")
	until(t, "the answer is in Redis", func() bool { return one.inRedis() == 1 })
	if !hit(two, "/x") {
		t.Fatal("the second gateway does not share")
	}
	two.do("POST", "http://a.example/x")
	if hit(two, "/x") {
		t.Error("what came from Redis outlives a write through the same gateway")
	}
}

// TestAClockThatIsAheadHidesNothingFromAPurge: an object that bears an instant
// after the purge was asked for before it.
func TestAClockThatIsAheadHidesNothingFromAPurge(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "ahead", "1"), branch(t, server.Addr, "ahead", "2")
	one.answers(200, "x", "Cache-Control: max-age=600", "Surrogate-Key: t1")
	two.answers(200, "x", "Cache-Control: max-age=600", "Surrogate-Key: t1")
	one.do("GET", "http://a.example/x")
	until(t, "the answer is in Redis", func() bool { return one.inRedis() == 1 })
	o := *one.h.larder.memory.Get("http://a.example/x\nahead\n")[0]
	o.Requested, o.Received = o.Requested.Add(time.Second), o.Received.Add(time.Second)
	one.h.second.put(t.Context(), &o)
	two.h.larder.purge(&purge{Tag: []string{"t1"}}, time.Now(), "admin")
	if hit(two, "/x") {
		t.Error("what was asked for before the purge, by a clock ahead, is served after it")
	}
}

// solely has everything kept in Redis and nothing in memory.
func (k *kitchen) solely() *kitchen {
	k.h.RedisOnly = true
	return k
}

func TestRedisOnly(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "sole", "1").solely(), branch(t, server.Addr, "sole", "2").solely()
	for _, k := range []*kitchen{one, two} {
		k.answers(200, "x", "Cache-Control: max-age=600, stale-while-revalidate=60", "Etag: \"a\"", "Surrogate-Key: t1")
	}
	one.do("GET", "http://a.example/x")
	until(t, "the answer is in Redis", func() bool { return one.inRedis() == 1 })
	for _, k := range []*kitchen{one, two, one} {
		if !hit(k, "/x") {
			t.Error("what lies in Redis is no hit")
		}
		if n := k.h.larder.memory.Len(); n != 0 {
			t.Errorf("%d keys are in memory, want none", n)
		}
	}
	two.expect(0, "Redis has it")
	if w := one.do("HEAD", "http://a.example/x"); !strings.Contains(w.Header().Get("Cache-Status"), "; hit") {
		t.Errorf("HEAD: %q", w.Header().Get("Cache-Status"))
	}
	if w := two.do("GET", "http://a.example/x", "Cache-Control: only-if-cached"); w.Code != 200 {
		t.Errorf("only-if-cached: %d", w.Code)
	}
	// Many at once are hits too, not waiters for a fetch.
	guests := make([]*guest, 20)
	for i := range guests {
		guests[i] = one.seat("GET", "http://a.example/x")
	}
	for _, g := range guests {
		if got := g.wait().Header().Get("Cache-Status"); !strings.Contains(got, "; hit") {
			t.Errorf("one of many: %q", got)
		}
	}
	before := two.h.larder.heard()
	o := &purge{Tag: []string{"t1"}}
	one.h.larder.purge(o, time.Now(), "admin")
	if err := one.h.larder.peers.Load().tell(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	until(t, "the second gateway hears of it", func() bool { return two.h.larder.heard() != before })
	for _, k := range []*kitchen{one, two} {
		if hit(k, "/x") {
			t.Error("what was purged is served from Redis")
		}
	}
}

// TestRedisOnlyRenewsInTheBackground: a stale object in Redis is served while a
// newer one is fetched, and validated with what it says.
func TestRedisOnlyRenewsInTheBackground(t *testing.T) {
	server := redistest.Start(t)
	k := branch(t, server.Addr, "renewed", "1").solely()
	k.answers(200, "old", "Cache-Control: max-age=600, stale-while-revalidate=600", `Etag: "a"`)
	k.get()
	until(t, "the answer is in Redis", func() bool { return k.inRedis() == 1 })
	list, err := k.h.second.list(t.Context(), "http://a.example/x")
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	o := *list[0]
	o.Age = 601 * time.Second
	k.h.second.put(t.Context(), &o)
	k.origin = func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=600")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	// Until what it brings is written, the origin is asked once.
	if err := k.h.second.redis.Do(t.Context(), "CLIENT", "PAUSE", "500", "WRITE").Err(); err != nil {
		t.Fatal(err)
	}
	paused := time.Now().Add(400 * time.Millisecond)
	if w := k.get(); w.Body.String() != "old" || !strings.Contains(w.Header().Get("Cache-Status"), "hit; ttl=-") {
		t.Errorf("stale: %q %q", w.Body, w.Header().Get("Cache-Status"))
	}
	for time.Now().Before(paused) {
		k.get()
	}
	if n := k.asked(); n > 2 {
		t.Errorf("the origin was asked %d times, want 2", n)
	}
	until(t, "it is renewed", func() bool {
		return strings.Contains(k.get().Header().Get("Cache-Status"), "hit; ttl=5")
	})
	if got := k.last().Header.Get("If-None-Match"); got != `"a"` {
		t.Errorf("the origin was asked to validate %q", got)
	}
}

// TestAGatewayThatWasAwayCatchesUp carries out what it has missed, also on what
// lies in its memory.
func TestAGatewayThatWasAwayCatchesUp(t *testing.T) {
	server := redistest.Start(t)
	one, two := branch(t, server.Addr, "away", "1"), branch(t, server.Addr, "away", "2")
	two.answers(200, "x", "Cache-Control: max-age=600", "Surrogate-Key: t1")
	until(t, "both have read what there was", func() bool { return two.h.larder.current.Load() })
	two.do("GET", "http://a.example/x")
	two.do("GET", "http://a.example/y")
	if err := two.app.Stop(); err != nil { // it hears no more
		t.Fatal(err)
	}
	for _, o := range []*purge{{Tag: []string{"none"}}, {URL: []string{"http://a.example/x"}}} {
		if err := one.h.larder.peers.Load().tell(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if !hit(two, "/x") {
		t.Fatal("who is away has heard of the purge: the test proves nothing")
	}
	p := &peers{redis: two.h.second.redis, larder: two.h.larder, second: two.h.second, node: "2"}
	back, stop := context.WithCancel(t.Context())
	defer stop()
	var listening sync.WaitGroup
	listening.Go(func() { p.listen(back) })
	until(t, "the purge is carried out", func() bool { return two.h.larder.memory.Get("http://a.example/x\naway\n") == nil })
	if !hit(two, "/y") {
		t.Error("what was not purged is gone too")
	}
	stop()
	listening.Wait()
}

// TestACluster has keys on all nodes: what belongs together bears one hash tag.
func TestACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, false)
	kitchens := make([]*kitchen, 2)
	for i := range kitchens {
		k := branchOf(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()}), "cluster", fmt.Sprint(i))
		k.answers(200, "x", "Cache-Control: max-age=600", "Vary: X-V", "Surrogate-Key: t1")
		kitchens[i] = k
	}
	one, two := kitchens[0], kitchens[1]
	var urls []string
	for i := range 30 {
		path := fmt.Sprint("/", i)
		urls = append(urls, "http://a.example"+path)
		one.do("GET", "http://a.example"+path, "X-V: 1")
	}
	until(t, "the other serves it all", func() bool {
		for i := range 30 {
			if list, err := two.h.second.list(t.Context(), urls[i]); err != nil || len(list) != 1 {
				return false
			}
		}
		return true
	})
	for i := range 30 {
		if !hit(two, fmt.Sprint("/", i), "X-V: 1") {
			t.Errorf("/%d is not shared", i)
		}
	}
	two.expect(0, "all of it lies in Redis")
	o := &purge{URL: urls}
	two.h.larder.purge(o, time.Now(), "admin")
	if err := two.h.larder.peers.Load().tell(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	until(t, "the first one has dropped it all", func() bool { return one.h.larder.memory.Len() == 0 })
	for _, u := range urls {
		if list, err := one.h.second.list(t.Context(), u); err != nil || len(list) != 0 {
			t.Errorf("%s is left in Redis: %v, %v", u, list, err)
		}
	}
}
