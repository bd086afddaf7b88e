package ratelimit

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

func sharing(t *testing.T, client redis.UniversalClient, config string) *Handler {
	t.Helper()
	h := provisionedStore(t, config, "memory")
	h.share(ledger.New(client, "test:rl:", nil))
	h.ledger.Start()
	t.Cleanup(func() {
		h.ledger.Stop()
		_ = client.Close()
	})
	<-h.ledger.Asked()
	return h
}

func TestClusterSharesAndSurvivesAFailover(t *testing.T) {
	servers, addrs := startCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, MaxRetries: -1, MaxRedirects: 3, PoolSize: 8, DialerRetries: 1,
		DialTimeout: 500 * time.Millisecond, ReadTimeout: 500 * time.Millisecond, WriteTimeout: 500 * time.Millisecond,
	})
	h := sharing(t, client, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"{http.request.host}","rate":"10/1h","mode":"strict"}}}`, zoneName(t)))
	h.patience = 5 * time.Second
	for i := range 30 { // keys on every shard
		host := fmt.Sprintf("http://h%d.example/", i)
		var admitted int
		for range 12 {
			if serve(t, h, prepared("GET", host)).Code == 200 {
				admitted++
			}
		}
		if admitted != 10 {
			t.Errorf("%s: %d of 12 are admitted, want 10", host, admitted)
		}
	}
	h.patience = patience

	// One shard dies: its keys fall back, the others go on.
	servers[1].Stop()
	sources := map[string]int{}
	waitFor(t, func() bool {
		for i := range 30 {
			r := prepared("GET", fmt.Sprintf("http://after%d.example/", i))
			if code := serve(t, h, r).Code; code != 200 && code != 429 {
				t.Errorf("with a dead shard an answer is %d", code)
			}
		}
		return len(h.ledger.Down()) == 1
	})
	for i := range 60 {
		r := prepared("GET", fmt.Sprintf("http://later%d.example/", i))
		serve(t, h, r)
		sources[exchange.Of(r).Zones[0].Source]++
	}
	if sources["redis"] == 0 || sources["fallback"] == 0 {
		t.Errorf("with one of three shards dead the decisions come from %v, want redis and fallback", sources)
	}
	servers[1].Restart()
	waitFor(t, func() bool { return len(h.ledger.Down()) == 0 })
}

func startCluster(t *testing.T, n int) (servers []*redistest.Server, addrs []string) {
	t.Helper()
	ctx := context.Background()
	var admins []*redis.Client
	for range n {
		s := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-config-file", filepath.Join(t.TempDir(), "nodes.conf"),
			"--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no", "--cluster-port", fmt.Sprint(redistest.FreePort(t)))
		admin := redis.NewClient(&redis.Options{Addr: s.Addr})
		t.Cleanup(func() { _ = admin.Close() })
		servers, addrs, admins = append(servers, s), append(addrs, s.Addr), append(admins, admin)
	}
	for i, admin := range admins {
		from, to := 16384*i/n, 16384*(i+1)/n-1
		must(t, admin.ClusterAddSlotsRange(ctx, from, to).Err())
		must(t, admin.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
	}
	for _, other := range servers[1:] {
		host, port, _ := net.SplitHostPort(other.Addr)
		bus := ""
		for _, arg := range other.Args() {
			if bus == "next" {
				bus = arg
			}
			if arg == "--cluster-port" {
				bus = "next"
			}
		}
		must(t, admins[0].Do(ctx, "CLUSTER", "MEET", host, port, bus).Err())
	}
	for _, admin := range admins {
		waitFor(t, func() bool {
			info, err := admin.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", n)) &&
				strings.Contains(info, "cluster_slots_assigned:16384")
		})
	}
	return servers, addrs
}

func TestSentinelFailoverKeepsTheLimit(t *testing.T) {
	primary := redistest.Start(t)
	host, port, _ := net.SplitHostPort(primary.Addr)
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "sentinel monitor main %s %s 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n", host, port), 0o600))
	sentinel := redistest.StartSentinel(t, conf)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: "main", SentinelAddrs: []string{sentinel.Addr}, MaxRetries: -1, DialerRetries: 1, PoolSize: 8,
		DialTimeout: 500 * time.Millisecond, ReadTimeout: 500 * time.Millisecond, WriteTimeout: 500 * time.Millisecond,
	})
	h := sharing(t, client, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"10/1h"}}}`, zoneName(t)))
	var admitted int
	pass := func() {
		switch code := serve(t, h, prepared("GET", "/")).Code; code {
		case 200:
			admitted++
		case 429:
		default:
			t.Errorf("an answer is %d", code)
		}
	}
	for range 6 {
		pass()
	}
	direct := redis.NewClient(&redis.Options{Addr: replica.Addr})
	defer direct.Close()
	ctx := context.Background()
	waitFor(t, func() bool { n, err := direct.DBSize(ctx).Result(); return err == nil && n > 2 })
	primary.Stop()
	waitFor(t, func() bool {
		pass()
		role, err := direct.Do(ctx, "ROLE").Slice()
		return err == nil && len(role) > 0 && role[0] == "master"
	})
	waitFor(t, func() bool { pass(); return len(h.ledger.Down()) == 0 })
	for range 10 {
		pass()
	}
	if admitted != 10 {
		t.Errorf("over a failover %d are admitted, want 10", admitted)
	}
}
