package ratelimit

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("rate_limit", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("rate_limit", httpcaddyfile.Before, "basic_auth")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	err := handler.UnmarshalCaddyfile(h.Dispenser)
	if err == nil && handler.Store == "redis" && h.Option("redis") == nil {
		err = h.Err("rate_limit: store redis needs the global option redis, such as redis {env.REDIS_URL}")
	}
	return handler, err
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	rate_limit [<matcher>] {
//		zone <name> {
//			key <template...>
//			missing_key client_ip|share|refuse|skip
//			algorithm gcra|sliding_log|fixed_window|concurrency
//			rate <requests>/<duration>|<requests>/hour|day|week|month|<requests>
//			burst <requests>
//			tier <template> {
//				<value>|default <rate>
//			}
//			timezone <name>
//			lease <duration>
//			cost <n>|<template>
//			response_cost <header>
//			dry_run
//			mode adaptive|strict
//			on_error local|allow|deny
//			match {
//				<matchers...>
//			}
//			ipv4_prefix <bits>
//			ipv6_prefix <bits>
//			max_keys <n>
//			new_keys <n>/<duration>
//			events <n>
//			window <duration>
//		}
//		store memory|redis [<name>]
//		gateways <n>
//		secret <reference>
//		prefix <text>
//		legacy_headers
//		jitter <share>
//		log_key
//		disable_metrics
//		sweep_interval <duration>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("rate_limit takes no argument but a matcher, got '%s'", d.Val())
	}
	h.RateLimits = make(map[string]*Zone)
	err := syntax.Block(d, "rate_limit",
		syntax.Option{Name: "zone", Many: true, Read: h.readZone},
		syntax.Option{Name: "store", Read: h.readStore},
		syntax.Option{Name: "gateways", Read: syntax.Count(&h.Gateways, 1)},
		syntax.Option{Name: "secret", Read: syntax.Text(&h.Secret)},
		syntax.Option{Name: "prefix", Read: syntax.Text(&h.Prefix)},
		syntax.Option{Name: "legacy_headers", Read: syntax.Flag(&h.LegacyHeaders)},
		syntax.Option{Name: "jitter", Read: h.readJitter},
		syntax.Option{Name: "log_key", Read: syntax.Flag(&h.LogKey)},
		syntax.Option{Name: "disable_metrics", Read: syntax.Flag(&h.DisableMetrics)},
		syntax.Option{Name: "sweep_interval", Read: syntax.Duration(&h.SweepInterval)},
		syntax.Option{Name: "distributed", Read: refuseDistributed},
		syntax.Option{Name: "storage", Read: refuseDistributed},
	)
	if err != nil {
		return err
	}
	if len(h.RateLimits) == 0 {
		return d.WrapErr(errNoZone)
	}
	return nil
}

func refuseDistributed(d *caddyfile.Dispenser) error { return d.WrapErr(errDistributed) }

func (h *Handler) readJitter(d *caddyfile.Dispenser) error {
	text, err := syntax.One(d, "a share such as 0.2")
	if err != nil {
		return err
	}
	if h.Jitter, err = strconv.ParseFloat(text, 64); err != nil || !(h.Jitter >= 0) {
		return d.Errf("option 'jitter' takes a share such as 0.2, got '%s'", text)
	}
	return nil
}

func (h *Handler) readStore(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "memory", len(args) == 1 && args[0] == "redis":
		h.Store = args[0]
	case len(args) == 2 && args[0] == "redis":
		h.Store, h.Redis = args[0], args[1]
	default:
		return d.Errf("option 'store' takes memory, redis or redis <name>, got '%s'", strings.Join(args, " "))
	}
	return nil
}

func (h *Handler) readZone(d *caddyfile.Dispenser) error {
	name, err := syntax.One(d, "a name")
	if err != nil {
		return err
	}
	if h.RateLimits[name] != nil {
		return d.Errf("rate_limit: zone '%s' is given twice", name)
	}
	z := &Zone{name: name}
	if err := z.unmarshalCaddyfile(d); err != nil {
		return err
	}
	if err := z.check(); err != nil {
		return d.Errf("zone %s: %v", name, err)
	}
	h.RateLimits[name] = z
	return nil
}

func (z *Zone) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return syntax.Block(d, "zone "+z.name,
		syntax.Option{Name: "key", Read: z.readKey},
		syntax.Option{Name: "missing_key", Read: syntax.Choice(&z.MissingKey, missingKeys...)},
		syntax.Option{Name: "algorithm", Read: syntax.Choice(&z.Algorithm, algorithms...)},
		syntax.Option{Name: "rate", Read: z.readRate(&z.Rate)},
		syntax.Option{Name: "burst", Read: count64(&z.Burst)},
		syntax.Option{Name: "tier", Read: z.readTier},
		syntax.Option{Name: "timezone", Read: syntax.Text(&z.TimeZone)},
		syntax.Option{Name: "lease", Read: syntax.Duration(&z.Lease)},
		syntax.Option{Name: "cost", Read: syntax.Text(&z.Cost)},
		syntax.Option{Name: "response_cost", Read: syntax.Text(&z.ResponseCost)},
		syntax.Option{Name: "dry_run", Read: syntax.Flag(&z.DryRun)},
		syntax.Option{Name: "mode", Read: syntax.Choice(&z.Mode, modes...)},
		syntax.Option{Name: "on_error", Read: syntax.Choice(&z.OnError, onErrors...)},
		syntax.Option{Name: "match", Many: true, Read: z.readMatch},
		syntax.Option{Name: "ipv4_prefix", Read: bits(&z.IPv4Prefix, 32)},
		syntax.Option{Name: "ipv6_prefix", Read: bits(&z.IPv6Prefix, 128)},
		syntax.Option{Name: "max_keys", Read: syntax.Count(&z.MaxKeys, 1)},
		syntax.Option{Name: "new_keys", Read: syntax.Text(&z.NewKeys)},
		syntax.Option{Name: "events", Read: syntax.Count(&z.MaxEvents, 1)},
		syntax.Option{Name: "window", Read: syntax.Duration(&z.Window)},
	)
}

func (z *Zone) readKey(d *caddyfile.Dispenser) error {
	var words []string
	if err := syntax.Texts(&words)(d); err != nil {
		return err
	}
	z.Key = strings.Join(words, " ")
	return nil
}

// readRate reads the number of a rate; what stands behind the slash depends on
// the algorithm, which may follow.
func (z *Zone) readRate(target *string) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		if err := syntax.Text(target)(d); err != nil {
			return err
		}
		if _, _, err := parseRate(*target); err != nil {
			return d.Errf("zone %s: %v", z.name, err)
		}
		return nil
	}
}

func (z *Zone) readTier(d *caddyfile.Dispenser) error {
	if err := syntax.Text(&z.Tier)(d); err != nil {
		return err
	}
	z.Tiers = make(map[string]string)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if z.Tiers[name] != "" {
			return d.Errf("zone %s: tier '%s' is given twice", z.name, name)
		}
		var rate string
		if err := z.readRate(&rate)(d); err != nil {
			return err
		}
		z.Tiers[name] = rate
	}
	return nil
}

func (z *Zone) readMatch(d *caddyfile.Dispenser) error {
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		return d.Errf("zone %s: match: %v", z.name, err)
	}
	z.MatcherSetsRaw = append(z.MatcherSetsRaw, set)
	return nil
}

func count64(target *int64) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		var n int
		if err := syntax.Count(&n, 1)(d); err != nil {
			return err
		}
		*target = int64(n)
		return nil
	}
}

func bits(target *int, most int) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		form := "a number of bits from 1 to " + strconv.Itoa(most)
		text, err := syntax.One(d, form)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return d.Errf("option '%s' takes %s, got '%s'", option, form, text)
		}
		*target = n
		return nil
	}
}

var (
	_ caddyfile.Unmarshaler = (*Handler)(nil)
	_ caddy.Module          = (*Handler)(nil)
)
