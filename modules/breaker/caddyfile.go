package breaker

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("breaker_proxy", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("breaker_proxy", httpcaddyfile.Before, "reverse_proxy")
}

// parseCaddyfile sets up the handler. Syntax:
//
//	breaker_proxy [<matcher>] [<upstreams...>] {
//		breaker [<name>] {
//			…  see Policy.read
//		}
//		timeout <duration>
//		concurrency <n>|adaptive [<least> [<most>]] {
//			queue <n>
//			wait <duration>
//		}
//		retry_budget <share> [<n>/s]|off
//		hedge <duration>
//		direct on|off
//		lean on|off
//		fallback respond <body>|<status> [<status>] {
//			header <name> <value>
//		}
//		fallback stale
//		fallback alternate [<upstreams...>] {
//			concurrency <n>
//			handle {
//				<directives...>
//			}
//		}
//		<subdirectives of reverse_proxy...>
//	}
func parseCaddyfile(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	own, err := split(helper.Dispenser)
	if err != nil {
		return nil, err
	}
	if err := h.readOwn(helper, own); err != nil {
		return nil, err
	}
	proxy := new(reverseproxy.Handler)
	if err := proxy.UnmarshalCaddyfile(helper.Dispenser); err != nil {
		return nil, err
	}
	if err := proxy.FinalizeUnmarshalCaddyfile(helper); err != nil {
		return nil, err
	}
	if err := check(proxy); err != nil {
		return nil, helper.WrapErr(err)
	}
	if len(proxy.Upstreams) == 0 && proxy.DynamicUpstreamsRaw == nil {
		return nil, helper.Errf("breaker_proxy needs an upstream, such as orders:8080")
	}
	h.ProxyRaw, err = json.Marshal(proxy)
	return h, err
}

// ours are the subdirectives that are not reverse_proxy's.
var ours = []string{"breaker", "timeout", "concurrency", "retry_budget", "hedge", "direct", "lean", "fallback"}

// split takes our segments out of d and leaves it at the start of the rest.
func split(d *caddyfile.Dispenser) (own []caddyfile.Segment, err error) {
	d.Next() // the directive's name
	d.RemainingArgs()
	for d.NextBlock(0) {
		mine := slices.Contains(ours, d.Val())
		segment := d.NextSegment()
		if !mine {
			continue
		}
		n := len(segment)
		if d.Val() == "}" && segment[n-1].Text != "}" {
			n += 2 // an empty block's braces are not part of the segment
		}
		d.DeleteN(n)
		own = append(own, segment)
	}
	d.Reset()
	return own, nil
}

func (h *Handler) readOwn(helper httpcaddyfile.Helper, own []caddyfile.Segment) error {
	seen := make(map[string]bool)
	for _, segment := range own {
		d := caddyfile.NewDispenser(segment)
		d.Next()
		name := d.Val()
		if seen[name] && name != "fallback" {
			return d.Errf("breaker_proxy: option '%s' is given twice", name)
		}
		seen[name] = true
		var err error
		switch name {
		case "breaker":
			h.Policy = new(Policy)
			err = h.Policy.read(d)
		case "timeout":
			err = syntax.Duration(&h.Timeout)(d)
		case "concurrency":
			h.Concurrency = new(Concurrency)
			err = h.Concurrency.read(d)
		case "retry_budget":
			h.RetryBudget = new(RetryBudget)
			err = h.RetryBudget.read(d)
		case "hedge":
			h.Hedge = new(Hedge)
			err = syntax.Duration(&h.Hedge.After)(d)
		case "direct":
			err = syntax.Choice(&h.Direct, "on", "off")(d)
		case "lean":
			err = syntax.Choice(&h.Lean, "on", "off")(d)
		case "fallback":
			err = h.readFallback(helper, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// again reads one of several arguments as if it stood alone.
func again(d *caddyfile.Dispenser, option, arg string, read syntax.Reader) error {
	name := d.Token()
	name.Text = option
	value := d.Token()
	value.Text = arg
	one := caddyfile.NewDispenser([]caddyfile.Token{name, value})
	one.Next()
	return read(one)
}

// numbers stores the option's arguments, of which there must be at least one.
func numbers(target *[]int) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.Errf("option '%s' takes one or more numbers, got none", option)
		}
		for _, arg := range args {
			n, err := strconv.Atoi(arg)
			if err != nil {
				return d.Errf("option '%s' takes whole numbers, got '%s'", option, arg)
			}
			*target = append(*target, n)
		}
		return nil
	}
}
