package ratelimit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// Zone is one limit and whom it counts.
type Zone struct {
	// MatcherSetsRaw says which requests belong to the zone. Default: all.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Key is the template of what is counted: each value it takes has a limit
	// of its own. A key without placeholders counts all requests together.
	Key string `json:"key,omitempty"`

	// Rate is how many requests come back in which time, such as `100/1m`.
	Rate string `json:"rate,omitempty"`

	// Burst is how many requests one key may make at once. Default: the number
	// in Rate. A smaller one refuses bursts that a window of that length would
	// admit.
	Burst int64 `json:"burst,omitempty"`

	// IPv4Prefix is how many bits of an IPv4 address in the key count. Default: 32.
	IPv4Prefix int `json:"ipv4_prefix,omitempty"`

	// IPv6Prefix is how many bits of an IPv6 address in the key count. Default:
	// 64, which is what one subscriber is given.
	IPv6Prefix int `json:"ipv6_prefix,omitempty"`

	// MaxKeys is how many keys the zone remembers in memory. Default: 100000.
	// When they are more, the fullest buckets are forgotten first.
	MaxKeys int `json:"max_keys,omitempty"`

	// Mode is how zones in Redis decide. `adaptive` (default) admits without
	// asking while it is certain that credit is left, and asks near the limit.
	// `strict` asks for every request.
	Mode string `json:"mode,omitempty"`

	// OnError is what happens while Redis does not answer: `local` (default)
	// goes on with this gateway's share of the limit, `allow` admits everything,
	// `deny` refuses with 503.
	OnError string `json:"on_error,omitempty"`

	name     string
	strict   bool
	ledger   *ledger.Ledger // nil where the zone is kept in memory
	gateways int            // as configured; zero: ask Redis
	matchers caddyhttp.MatcherSets
	template template
	rule     *rule
	table    *table
	counters sync.Map // of outcome to prometheus.Counter
}

const defaultMaxKeys = 100_000

func (z *Zone) provision(ctx caddy.Context, name string) error {
	z.name = name
	if err := z.check(); err != nil {
		return err
	}
	sets, err := ctx.LoadModule(z, "MatcherSetsRaw")
	if err != nil {
		return fmt.Errorf("match: %w", err)
	}
	if err := z.matchers.FromInterface(sets); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	z.template = newTemplate(z.Key, cmp.Or(z.IPv4Prefix, 32), cmp.Or(z.IPv6Prefix, 64))
	held, _, err := tables.LoadOrNew(name, newTable)
	if err != nil {
		return err
	}
	z.table = held.(*table)
	return nil
}

// check refuses settings that cannot be meant, and reads the rate.
func (z *Zone) check() (err error) {
	switch {
	case z.Rate == "":
		return fmt.Errorf("there is no rate; write one such as 100/1m")
	case z.Key == "":
		return fmt.Errorf("there is no key; write a template such as {client_ip}, or one word to count all requests together")
	case z.Burst < 0 || z.Burst > most:
		return fmt.Errorf("burst is %d; it is a whole number from 1 to %d", z.Burst, most)
	case z.IPv4Prefix < 0 || z.IPv4Prefix > 32:
		return fmt.Errorf("ipv4_prefix is %d; it is a number of bits from 1 to 32", z.IPv4Prefix)
	case z.IPv6Prefix < 0 || z.IPv6Prefix > 128:
		return fmt.Errorf("ipv6_prefix is %d; it is a number of bits from 1 to 128", z.IPv6Prefix)
	case z.MaxKeys < 0:
		return fmt.Errorf("max_keys is %d; it is a whole number of at least 1", z.MaxKeys)
	}
	if err := oneOf("mode", z.Mode, modes); err != nil {
		return err
	}
	if err := oneOf("on_error", z.OnError, onErrors); err != nil {
		return err
	}
	z.strict = z.Mode == "strict"
	z.rule, err = newRule(z.name, z.Rate, z.Burst)
	return err
}

// outcome is one combination of label values.
type outcome struct{ result, source string }

func (z *Zone) count(a *ask) {
	o := outcome{a.result(), a.source}
	c, known := z.counters.Load(o)
	if !known {
		c, _ = z.counters.LoadOrStore(o, decisions.WithLabelValues(z.name, "default", o.result, o.source))
	}
	c.(prometheus.Counter).Inc()
}

func (z *Zone) maxKeys() int { return cmp.Or(z.MaxKeys, defaultMaxKeys) }

func (z *Zone) graceMicros() float64 {
	if z.strict {
		return 0
	}
	return grace
}

// gatewayCount is how many gateways share the zone; zero means nobody knows.
func (z *Zone) gatewayCount() int {
	if z.gateways > 0 {
		return z.gateways
	}
	return z.ledger.Gateways()
}

func (z *Zone) cleanup() {
	if z.table != nil {
		z.table = nil
		_, _ = tables.Delete(z.name)
	}
}

var (
	modes    = []string{"adaptive", "strict"}
	onErrors = []string{"local", "allow", "deny"}
)

func oneOf(option, word string, words []string) error {
	if word == "" || slices.Contains(words, word) {
		return nil
	}
	return fmt.Errorf("%s is '%s'; it is one of %s", option, word, strings.Join(words, ", "))
}
