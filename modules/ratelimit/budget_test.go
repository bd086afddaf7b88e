package ratelimit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// made sends a request with a key that its sender made up.
func made(t *testing.T, h *Handler, ip, key string) int {
	t.Helper()
	r := withClientIP(prepared("GET", "/"), ip)
	r.Header.Set("X-Key", key)
	return serve(t, h, r).Code
}

func TestScanOfNewKeysSharesItsNetworksLimit(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		h := open(fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"{http.request.header.X-Key}","rate":"5/1h","new_keys":"10/1h"}}}`, zoneName(t)))
		if code := made(t, h, "198.51.100.1", "customer"); code != 200 {
			t.Fatalf("the first request gets %d", code)
		}
		admitted := 0
		for i := range 1000 {
			if made(t, h, fmt.Sprintf("203.0.113.%d", i%200), fmt.Sprint("made up ", i)) == 200 {
				admitted++
			}
		}
		// Nine keys had room, one request each, and the rest is one caller.
		if admitted != 9+5 {
			t.Errorf("of 1000 made-up keys of one network %d are admitted, want 14", admitted)
		}
		for i := range 4 {
			if code := made(t, h, "198.51.100.1", "customer"); code != 200 {
				t.Errorf("request %d of a known caller gets %d during the scan", i+2, code)
			}
		}
		if code := made(t, h, "192.0.2.1", "another customer"); code != 200 {
			t.Errorf("a new caller of another network gets %d during the scan", code)
		}
		// As many networks as keys; the rest shares one limit.
		admitted = 0
		for i := range 1000 {
			if made(t, h, fmt.Sprintf("2001:%x::1", i), fmt.Sprint("anew ", i)) == 200 {
				admitted++
			}
		}
		if admitted != 8+5 {
			t.Errorf("of 1000 networks with made-up keys %d are admitted, want 13", admitted)
		}
		if n := h.zones[0].table.keys(); n > 21 {
			t.Errorf("%d keys are remembered, want 10, 10 networks and the rest", n)
		}
		if n := testutil.ToFloat64(h.zones[0].overflows); n < 1900 {
			t.Errorf("%v requests count as overflow, want about 1980", n)
		}
	})
}

func TestScanLeavesRedisAlone(t *testing.T) {
	server := redistest.Start(t)
	h := gateway(t, server.Addr, fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"{http.request.header.X-Key}","algorithm":"fixed_window","rate":"5/month","new_keys":"10/1h"}}}`, zoneName(t)))
	for i := range 2000 {
		made(t, h, fmt.Sprintf("10.%d.0.1", i%250), fmt.Sprint("made up ", i))
	}
	n, err := server.Admin().DBSize(context.Background()).Result()
	must(t, err)
	if n > 21+2 {
		t.Errorf("after a scan of 2000 keys Redis holds %d, want at most 21 and two of the gateways", n)
	}
}

// Keys that a guard has verified cannot be made up: no budget stands in the way.
func TestVerifiedKeysHaveNoBudget(t *testing.T) {
	for key, want := range map[string]bool{
		"{http.auth.user.id}":                         true,
		"{http.auth.user.id} {http.auth.user.tenant}": true,
		"all":                            true,
		"{client_ip}":                    false,
		"{http.auth.user.id} {header.X}": false,
	} {
		z := &Zone{name: "z", Key: key, Rate: "1/1s"}
		if err := z.check(); err != nil {
			t.Fatal(err)
		}
		if z.verified != want {
			t.Errorf("key %s counts as verified: %v, want %v", key, z.verified, want)
		}
		z.NewKeys = "10/1s"
		if err := z.check(); err != nil || z.verified {
			t.Errorf("key %s with new_keys: %v, verified %v; want the budget to hold", key, err, z.verified)
		}
	}
}

func TestRefusedNewKeys(t *testing.T) {
	for _, text := range []string{"0/1s", "many", "5", "5/", "5/day", "5/-1s"} {
		z := &Zone{name: "z", Key: "{client_ip}", Rate: "1/1s", NewKeys: text}
		if err := z.check(); err == nil || !strings.Contains(err.Error(), "new_keys '"+text+"': it is a whole number") {
			t.Errorf("new_keys %s is refused with %v, want what it is", text, err)
		}
	}
}

func TestKeysAreCountedWhenTheyAreScraped(t *testing.T) {
	name := zoneName(t)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	h := &Handler{Store: "memory", RateLimits: map[string]*Zone{
		name: {Key: "{http.request.host}", MaxEvents: 5, Window: caddy.Duration(time.Hour)},
	}}
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	scraped := func() string {
		families, err := ctx.GetMetricsRegistry().Gather()
		must(t, err)
		var got []string
		for _, family := range families {
			for _, m := range family.Metric {
				for _, l := range m.Label {
					if l.GetName() == "zone" && l.GetValue() == name && m.Gauge != nil {
						got = append(got, fmt.Sprint(family.GetName(), " ", m.Gauge.GetValue()))
					}
				}
			}
		}
		return strings.Join(got, ", ")
	}
	for _, host := range []string{"a", "b", "c"} {
		serve(t, h, prepared("GET", "http://"+host+".example/")) // none is refused
	}
	if got, want := scraped(), "caddy_rate_limit_keys_total 3, sallyport_ratelimit_keys 3"; got != want {
		t.Errorf("after three callers the metrics say %s; want %s", got, want)
	}
	must(t, h.Cleanup())
	if got := scraped(); got != "" {
		t.Errorf("after the zone is gone the metrics say %s; want nothing", got)
	}
}
