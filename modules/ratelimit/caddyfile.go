package ratelimit

import (
	"strconv"
	"strings"

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
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	rate_limit [<matcher>] {
//		zone <name> {
//			key <template...>
//			rate <requests>/<duration>
//			burst <requests>
//			mode adaptive|strict
//			on_error local|allow|deny
//			match {
//				<matchers...>
//			}
//			ipv4_prefix <bits>
//			ipv6_prefix <bits>
//			max_keys <n>
//		}
//		store memory|redis [<name>]
//		gateways <n>
//		secret <reference>
//		prefix <text>
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
	)
	if err != nil {
		return err
	}
	if len(h.RateLimits) == 0 {
		return d.Err("rate_limit has no zone; write zone <name> { key <template>; rate 100/1m }")
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

func (z *Zone) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return syntax.Block(d, "zone "+z.name,
		syntax.Option{Name: "key", Read: func(d *caddyfile.Dispenser) error {
			var words []string
			if err := syntax.Texts(&words)(d); err != nil {
				return err
			}
			z.Key = strings.Join(words, " ")
			return nil
		}},
		syntax.Option{Name: "rate", Read: func(d *caddyfile.Dispenser) error {
			if err := syntax.Text(&z.Rate)(d); err != nil {
				return err
			}
			if _, _, err := parseRate(z.Rate); err != nil {
				return d.Errf("zone %s: %v", z.name, err)
			}
			return nil
		}},
		syntax.Option{Name: "burst", Read: count64(&z.Burst)},
		syntax.Option{Name: "mode", Read: syntax.Choice(&z.Mode, modes...)},
		syntax.Option{Name: "on_error", Read: syntax.Choice(&z.OnError, onErrors...)},
		syntax.Option{Name: "match", Many: true, Read: func(d *caddyfile.Dispenser) error {
			set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
			if err != nil {
				return d.Errf("zone %s: match: %v", z.name, err)
			}
			z.MatcherSetsRaw = append(z.MatcherSetsRaw, set)
			return nil
		}},
		syntax.Option{Name: "ipv4_prefix", Read: bits(&z.IPv4Prefix, 32)},
		syntax.Option{Name: "ipv6_prefix", Read: bits(&z.IPv6Prefix, 128)},
		syntax.Option{Name: "max_keys", Read: syntax.Count(&z.MaxKeys, 1)},
	)
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

var _ caddyfile.Unmarshaler = (*Handler)(nil)
