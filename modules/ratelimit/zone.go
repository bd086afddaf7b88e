package ratelimit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// Zone is one limit and whom it counts.
type Zone struct {
	// MatcherSetsRaw says which requests belong to the zone. Default: all.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Key is the template of what is counted: each value it takes has a limit
	// of its own. A key without placeholders counts all requests together.
	Key string `json:"key,omitempty"`

	// MissingKey is what happens to a request for which a placeholder of Key is
	// empty: `client_ip` (default) counts it by its address, `share` counts all
	// such requests together, `refuse` refuses it, `skip` lets it pass uncounted.
	MissingKey string `json:"missing_key,omitempty"`

	// Algorithm is `gcra` (default), `sliding_log`, `fixed_window` or `concurrency`.
	Algorithm string `json:"algorithm,omitempty"`

	// Rate is how many requests come back in which time, such as `100/1m`. For
	// fixed_window the time is `hour`, `day`, `week` or `month`; for concurrency
	// it is a number alone.
	Rate string `json:"rate,omitempty"`

	// Burst is how many requests one key may make at once, with gcra. Default:
	// the number in Rate. A smaller one refuses bursts that a window of that
	// length would admit.
	Burst int64 `json:"burst,omitempty"`

	// Tier is a template such as `{http.auth.user.plan}`; its value chooses the
	// rate among Tiers, where `default` stands for all other values.
	Tier  string            `json:"tier,omitempty"`
	Tiers map[string]string `json:"tiers,omitempty"`

	// TimeZone is where the periods of fixed_window begin. Default: UTC.
	TimeZone string `json:"timezone,omitempty"`

	// Lease is how long Redis keeps the place of a request whose gateway died,
	// with concurrency. Default: 1m; at least 10s.
	Lease caddy.Duration `json:"lease,omitempty"`

	// Cost is what a request is charged: a whole number or a template. Default: 1.
	Cost string `json:"cost,omitempty"`

	// ResponseCost names a header of the answer with what the request really
	// cost; the difference to Cost is charged or given back then.
	ResponseCost string `json:"response_cost,omitempty"`

	// DryRun decides and counts, and never refuses.
	DryRun bool `json:"dry_run,omitempty"`

	// IPv4Prefix is how many bits of an IPv4 address in the key count. Default: 32.
	IPv4Prefix int `json:"ipv4_prefix,omitempty"`

	// IPv6Prefix is how many bits of an IPv6 address in the key count. Default:
	// 64, which is what one subscriber is given; with Window and MaxEvents 128.
	IPv6Prefix int `json:"ipv6_prefix,omitempty"`

	// MaxKeys is how many keys the zone remembers in memory. Default: 100000.
	// When they are more, the fullest buckets are forgotten first.
	MaxKeys int `json:"max_keys,omitempty"`

	// NewKeys is how many new keys this gateway begins to remember in which
	// time, such as `50000/10s` (default). Requests with further new keys are
	// counted together with their network: an IPv4 /16 or an IPv6 /32. Unless
	// set it does not hold for keys made of {http.auth.user.*} alone, which
	// nobody can make up.
	NewKeys string `json:"new_keys,omitempty"`

	// Mode is how zones in Redis decide. `adaptive` (default) admits without
	// asking while it is certain that credit is left, and asks near the limit.
	// `strict` asks for every request. Algorithms other than gcra are strict.
	Mode string `json:"mode,omitempty"`

	// OnError is what happens while Redis does not answer: `local` (default)
	// goes on with this gateway's share of the limit, `allow` admits everything,
	// `deny` refuses with 503.
	OnError string `json:"on_error,omitempty"`

	// MaxEvents and Window are the exact sliding window of the community's
	// rate_limit plugin: at most so many requests in any such time.
	MaxEvents int            `json:"max_events,omitempty"`
	Window    caddy.Duration `json:"window,omitempty"`

	name      string
	strict    bool
	ledger    *ledger.Ledger // nil where the zone is kept in memory
	gateways  int            // as configured; zero: ask Redis
	matchers  caddyhttp.MatcherSets
	template  template
	rule      *rule // of the default tier
	tiers     map[string]*rule
	cost      float64 // if constant, or else zero
	table     *table
	budget    gcra.Limit // of new keys; zero where nothing is bounded
	verified  bool       // the whole key was verified by somebody else
	logger    *zap.Logger
	overflows prometheus.Counter
	held      bool     // table is counted as used; requests do not read it
	counters  sync.Map // of outcome to prometheus.Counter
}

const defaultMaxKeys = 100_000

func (z *Zone) provision(ctx caddy.Context, name string) error {
	z.name = name
	if err := z.check(); err != nil {
		return err
	}
	z.logger, z.overflows = ctx.Logger(), overflows.WithLabelValues(name)
	sets, err := ctx.LoadModule(z, "MatcherSetsRaw")
	if err != nil {
		return fmt.Errorf("match: %w", err)
	}
	if err := z.matchers.FromInterface(sets); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	if z.community() {
		z.template = newTemplate(z.Key, cmp.Or(z.IPv4Prefix, 32), cmp.Or(z.IPv6Prefix, 128))
	} else {
		z.template = newTemplate(z.Key, cmp.Or(z.IPv4Prefix, 32), cmp.Or(z.IPv6Prefix, 64))
	}
	pooled, _, err := tables.LoadOrNew(name, newTable)
	if err != nil {
		return err
	}
	z.table, z.held = pooled.(*table), true
	return nil
}

// community says that the zone is written in the community plugin's words.
func (z *Zone) community() bool { return z.MaxEvents != 0 || z.Window != 0 }

// check refuses settings that cannot be meant, and makes the rules.
func (z *Zone) check() error {
	for _, err := range []error{
		z.checkForm(), z.checkNumbers(),
		oneOf("missing_key", z.MissingKey, missingKeys), oneOf("algorithm", z.Algorithm, algorithms),
		oneOf("mode", z.Mode, modes), oneOf("on_error", z.OnError, onErrors),
	} {
		if err != nil {
			return err
		}
	}
	if err := z.makeRules(); err != nil {
		return err
	}
	if err := z.makeBudget(); err != nil {
		return err
	}
	if z.Mode == "adaptive" && z.rule.kind != bucket {
		return fmt.Errorf("mode adaptive needs algorithm gcra; %s is always strict", algorithms[z.rule.kind])
	}
	z.strict = z.Mode == "strict" || z.rule.kind != bucket
	return z.checkCost()
}

func (z *Zone) checkForm() error {
	switch {
	case z.community() && (z.Rate != "" || z.Burst != 0 || z.Algorithm != "" || z.Tier != ""):
		return fmt.Errorf("events and window are one form, rate and what goes with it another; write one of them")
	case z.community() && (z.MaxEvents < 1 || z.Window <= 0):
		return fmt.Errorf("a zone with events or window needs both, each above zero")
	case z.community():
		return nil
	case (z.Tier == "") != (len(z.Tiers) == 0):
		return fmt.Errorf("tier needs a template and rates: tier {http.auth.user.plan} { gold 1000/1m; default 60/1m }")
	case z.Tier != "" && (z.Rate != "" || z.Burst != 0):
		return fmt.Errorf("with tier the rates stand in its block; rate and burst stand alone")
	case z.Tier != "" && z.Tiers["default"] == "":
		return fmt.Errorf("tier has no rate named default, for callers of no other tier")
	case z.Rate == "" && z.Tier == "":
		return fmt.Errorf("there is no rate; write one such as 100/1m")
	case z.Key == "":
		return fmt.Errorf("there is no key; write a template such as {client_ip}, or one word to count all requests together")
	}
	return nil
}

func (z *Zone) checkNumbers() error {
	switch {
	case z.Burst < 0 || z.Burst > largest:
		return fmt.Errorf("burst is %d; it is a whole number from 1 to %d", z.Burst, largest)
	case z.Burst != 0 && z.Algorithm != "" && z.Algorithm != "gcra":
		return fmt.Errorf("burst needs algorithm gcra")
	case z.TimeZone != "" && z.Algorithm != "fixed_window":
		return fmt.Errorf("timezone needs algorithm fixed_window")
	case z.Lease != 0 && z.Algorithm != "concurrency":
		return fmt.Errorf("lease needs algorithm concurrency")
	case z.Lease != 0 && z.Lease < caddy.Duration(10*time.Second):
		return fmt.Errorf("lease is %s; it is at least 10s", time.Duration(z.Lease))
	case z.IPv4Prefix < 0 || z.IPv4Prefix > 32:
		return fmt.Errorf("ipv4_prefix is %d; it is a number of bits from 1 to 32", z.IPv4Prefix)
	case z.IPv6Prefix < 0 || z.IPv6Prefix > 128:
		return fmt.Errorf("ipv6_prefix is %d; it is a number of bits from 1 to 128", z.IPv6Prefix)
	case z.MaxKeys < 0:
		return fmt.Errorf("max_keys is %d; it is a whole number of at least 1", z.MaxKeys)
	}
	return nil
}

func (z *Zone) makeRules() (err error) {
	if z.community() {
		z.rule = z.communityRule()
		return nil
	}
	if z.Tier == "" {
		z.rule, err = z.newRule("default", z.Rate)
		return err
	}
	z.tiers = make(map[string]*rule, len(z.Tiers))
	for _, name := range slices.Sorted(maps.Keys(z.Tiers)) {
		if z.tiers[name], err = z.newRule(name, z.Tiers[name]); err != nil {
			return fmt.Errorf("tier %s: %w", name, err)
		}
	}
	z.rule = z.tiers["default"]
	return nil
}

func (z *Zone) checkCost() error {
	if z.rule.kind == concurrent && (z.Cost != "" || z.ResponseCost != "") {
		return fmt.Errorf("a request holds one place of concurrency; cost and response_cost do not apply")
	}
	z.cost = 1
	if z.Cost == "" {
		return nil
	}
	if strings.Contains(z.Cost, "{") {
		z.cost = 0
		return nil
	}
	n, err := strconv.ParseInt(z.Cost, 10, 64)
	if err != nil || n < 1 || float64(n) > z.rule.burst {
		return fmt.Errorf("cost is '%s'; it is a template, or a whole number from 1 to the burst of %.0f", z.Cost, z.rule.burst)
	}
	z.cost = float64(n)
	return nil
}

var (
	missingKeys = []string{"client_ip", "share", "refuse", "skip"}
	modes       = []string{"adaptive", "strict"}
	onErrors    = []string{"local", "allow", "deny"}
)

func oneOf(option, word string, words []string) error {
	if word == "" || slices.Contains(words, word) {
		return nil
	}
	return fmt.Errorf("%s is '%s'; it is one of %s", option, word, strings.Join(words, ", "))
}

// outcome is one combination of label values.
type outcome struct{ policy, result, source string }

func (z *Zone) count(a *ask) {
	o := outcome{a.rule.tier, a.result(), a.source}
	c, known := z.counters.Load(o)
	if !known {
		c, _ = z.counters.LoadOrStore(o, decisions.WithLabelValues(z.name, o.policy, o.result, o.source))
	}
	c.(prometheus.Counter).Inc()
}

func (z *Zone) maxKeys() int { return cmp.Or(z.MaxKeys, defaultMaxKeys) }

func (z *Zone) lease() time.Duration { return cmp.Or(time.Duration(z.Lease), defaultLease) }

// graceMicros is how early the zone may admit.
func (z *Zone) graceMicros() float64 {
	if z.strict {
		return 0
	}
	return grace
}

// gatewayCount is how many gateways share the zone; zero means nobody knows.
func (z *Zone) gatewayCount() int { return cmp.Or(z.gateways, z.ledger.Gateways()) }

// cleanup lets go of the table. The pointer stays: requests of the outgoing
// configuration may still be served, and read it.
func (z *Zone) cleanup() {
	if z.held {
		z.held = false
		_, _ = tables.Delete(z.name)
	}
}
