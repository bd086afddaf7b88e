package ratelimit

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// defaultNewKeys fills a table in seconds and lets a scan of addresses make no
// more keys than Redis notices.
const defaultNewKeys = "50000/10s"

// allowance is a bucket that many requests draw from without a lock.
type allowance struct{ tat atomic.Uint64 }

func (a *allowance) take(l gcra.Limit, now float64) bool {
	for {
		old := a.tat.Load()
		tat := math.Float64frombits(old)
		if l.Wait(tat, now, 1) > 0 {
			return false
		}
		if a.tat.CompareAndSwap(old, math.Float64bits(l.Spend(tat, now, 1))) {
			return true
		}
	}
}

// makeBudget reads NewKeys.
func (z *Zone) makeBudget() error {
	text := z.NewKeys
	if text == "" {
		text = defaultNewKeys
	}
	n, per, err := parseRate(text)
	if err != nil || per == "" {
		return fmt.Errorf("new_keys '%s': it is a whole number of at least 1, a slash and a duration, such as %s", text, defaultNewKeys)
	}
	window, err := syntax.ParseDuration(per)
	if err != nil {
		return fmt.Errorf("new_keys '%s': it is a whole number of at least 1, a slash and a duration, such as %s", text, defaultNewKeys)
	}
	z.budget = gcra.Of(n, window, n)
	z.verified = z.NewKeys == "" && z.Key != ""
	for _, p := range newTemplate(z.Key, 32, 64).parts {
		z.verified = z.verified && (!p.placeholder || strings.HasPrefix(p.text, "http.auth.user."))
	}
	return nil
}

// claim locks the shard of the ask's key and finds the key's entry. A key that
// is not there needs room in the zone's budget, since whoever can make up keys
// would have a limit of its own for each. Without room the request counts with
// its network, and where there are too many new networks, with all such requests.
func (a *ask) claim(now float64) {
	t := a.zone.table
	if a.known || a.zone.budget.Every == 0 || a.claimWithin(&t.keysBudget, now) {
		if a.entry == nil {
			a.lock()
			a.entry = a.shard.claimLocked(a.key, now, a.zone.maxKeys())
		}
		return
	}
	a.zone.overflow(now)
	if a.key = a.network(); a.claimWithin(&t.networksBudget, now) {
		return
	}
	a.key = "\x00others"
	a.lock()
	a.entry = a.shard.claimLocked(a.key, now, a.zone.maxKeys())
}

func (a *ask) lock() {
	a.shard = a.zone.table.shard(a.key)
	a.shard.mu.Lock()
}

// claimWithin finds the key, or makes it where the budget allows. The shard is
// locked where it returns true.
func (a *ask) claimWithin(budget *allowance, now float64) bool {
	a.lock()
	if i, known := a.shard.index[a.key]; known {
		a.entry = &a.shard.slots[i]
		return true
	}
	if !budget.take(a.zone.budget, now) {
		a.shard.mu.Unlock()
		return false
	}
	a.entry = a.shard.claimLocked(a.key, now, a.zone.maxKeys())
	return true
}

// network is the key of all callers near this one.
func (a *ask) network() string {
	ip, _ := caddyhttp.GetVar(a.request.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return "\x00network"
	}
	addr = embedded(addr.WithZone(""))
	bits := 32
	if addr.Is4() {
		bits = 16
	}
	return "\x00network " + netip.PrefixFrom(addr, bits).Masked().String()
}

// overflow counts a request that found no room, and says so once a minute.
func (z *Zone) overflow(now float64) {
	z.overflows.Inc()
	last := z.table.warned.Load()
	if now-math.Float64frombits(last) < float64(time.Minute/time.Microsecond) ||
		!z.table.warned.CompareAndSwap(last, math.Float64bits(now)) {
		return
	}
	z.logger.Warn("too many new keys; what is new counts with its network",
		zap.String("zone", z.name), zap.Float64("new_keys_per_second", 1e6/z.budget.Every))
}
