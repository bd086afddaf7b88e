package ratelimit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// A reload goes on with the same batches, the same limits, the same connections.
func TestReloadKeepsWhatIsShared(t *testing.T) {
	server := redistest.Start(t)
	limit := `rate_limit {
		zone ` + zoneName(t) + ` {
			key all
			rate 10/1h
		}
		gateways 1
	}`
	before, _ := live(t, "redis redis://"+server.Addr, limit)
	got := admissions{}
	for range 6 {
		got.ask(t, before, "a.example")
	}
	after, _ := live(t, "redis redis://"+server.Addr, limit)
	if before.ledger != after.ledger {
		t.Error("the reload made another ledger")
	}
	for range 6 {
		got.ask(t, after, "a.example")
	}
	if got["a.example"] != 10 {
		t.Errorf("over a reload %d are admitted, want 10", got["a.example"])
	}
}

// While nobody knows how many gateways there are, credit cannot be shared out:
// every request asks, and readiness says so.
func TestUnknownNumberOfGatewaysIsStrict(t *testing.T) {
	server := redistest.Start(t)
	ctx := context.Background()
	rights := slices.DeleteFunc(printedACL(t), func(r any) bool { return r == "+zadd" })
	must(t, server.Admin().Do(ctx, append([]any{"ACL", "SETUSER", "gateway", "reset", "on", ">pass"}, rights...)...).Err())
	t.Setenv("TURNSTILE_SECRET", "given, since it cannot be shared")
	h, _ := live(t, "redis redis://gateway:pass@"+server.Addr, `rate_limit {
		zone `+zoneName(t)+` {
			key all
			rate 1000/1s
		}
		secret {env.TURNSTILE_SECRET}
	}`)
	for i := range 20 {
		if source := (admissions{}).ask(t, h, "a.example"); source != "redis" {
			t.Errorf("request %d is decided by %s, want redis", i, source)
		}
	}
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_ratelimit")
	must(t, err)
	err = app.(*App).Ready(ctx)
	if d, ok := err.(interface{ Degraded() bool }); !ok || !d.Degraded() || !strings.Contains(err.Error(), "number of gateways") {
		t.Errorf("Ready = %v, want a degraded error about the number of gateways", err)
	}
}

// A slot moves to another primary: what is asked meanwhile is asked there.
func TestSlotMigration(t *testing.T) {
	cluster := redistest.StartCluster(t, 2, false)
	h, _ := overCluster(t, cluster, "strict")
	got := admissions{}
	ask := func(n int) {
		for range n {
			if source := got.ask(t, h, "a.example"); source != "redis" && source != "deny_cache" {
				t.Errorf("a decision comes from %s, want redis", source)
			}
		}
	}
	ask(3)
	ctx := context.Background()
	name := h.zones[0].account("a.example", instant(time.Now()), h.zones[0].rule).name
	from, to := cluster.Primaries[0], cluster.Primaries[1]
	slot, err := from.Admin().ClusterKeySlot(ctx, name).Result()
	must(t, err)
	if slot >= 8192 {
		from, to = to, from
	}
	source, target := from.Admin(), to.Admin()
	ids := map[string]string{}
	for _, s := range []*redistest.Server{from, to} {
		id, err := s.Admin().ClusterMyID(ctx).Result()
		must(t, err)
		ids[s.Addr] = id
	}
	must(t, target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[from.Addr]).Err())
	must(t, source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to.Addr]).Err())
	ask(2) // still there
	host, number, _ := strings.Cut(to.Addr, ":")
	must(t, source.Do(ctx, "MIGRATE", host, number, name, 0, 5000).Err())
	ask(3) // answered with ASK
	for _, admin := range []*redis.Client{target, source} {
		must(t, admin.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", ids[to.Addr]).Err())
	}
	ask(5) // answered with MOVED, and then there
	if got["a.example"] != 10 {
		t.Errorf("over the migration %d are admitted, want 10", got["a.example"])
	}
}

// What is refused without asking is checked with Redis now and then.
func TestRefusalsAreAudited(t *testing.T) {
	server := redistest.Start(t)
	h := gateway(t, server.Addr, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"all","rate":"5/1h"}}}`, zoneName(t)))
	checked, wrong := testutil.ToFloat64(audited), testutil.ToFloat64(falsePositives)
	waitFor(t, func() bool {
		for range 1000 {
			decide(h, arrival{cost: 1})
		}
		return testutil.ToFloat64(audited) > checked+3
	})
	if n := testutil.ToFloat64(falsePositives) - wrong; n != 0 {
		t.Errorf("%v refusals of an empty bucket count as false", n)
	}
}

// Redis answers, but too late to be worth a wait: adaptive zones stop waiting.
func TestBrownoutStopsTheWaiting(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr)
	h, log := live(t, "redis redis://"+p.addr, `rate_limit {
		zone `+zoneName(t)+` {
			key {http.request.host}
			rate 10/1h
		}
		gateways 1
	}`)
	h.patience = patience
	p.poison(t, `{"type":"latency","attributes":{"latency":70}}`)
	n := 0
	waitFor(t, func() bool {
		n++
		r := prepared("GET", fmt.Sprintf("http://h%d.example/", n))
		serve(t, h, r)
		return h.ledger.Brown(h.zones[0].account(fmt.Sprintf("h%d.example", n), instant(time.Now()), h.zones[0].rule).name, patience)
	})
	r := prepared("GET", "http://next.example/")
	serve(t, h, r)
	if z := exchange.Of(r).Zones[0]; z.Source != "fallback" || z.Result != "allowed" {
		t.Errorf("in a brownout a new caller is %s by %s, want allowed by fallback", z.Result, z.Source)
	}
	waitFor(t, func() bool { return strings.Contains(log(), "redis is slow; adaptive zones do not wait for it") })
}
