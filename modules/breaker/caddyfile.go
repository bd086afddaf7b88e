package breaker

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
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
//		fallback respond <body>|<status> [<status>] {
//			header <name> <value>
//		}
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
var ours = []string{"breaker", "fallback"}

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
		case "fallback":
			err = h.readFallback(helper, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads a policy. Syntax:
//
//	breaker [<name>] {
//		mode enforce|shadow
//		window <duration>|<count>
//		failure_ratio <share>|off
//		slow <duration> [<share>]
//		consecutive <n>
//		min_requests <n>
//		min_clients <n>
//		open <duration> [<longest>]
//		jitter <share>|off
//		probes <n> [<successes>]
//		probe_timeout <duration>
//		half_open_max <duration>
//		ramp <duration>
//		fail_status <status...>
//		grpc_failures <code...>
//		min_deadline <duration>
//		max_ejected <share>
//		panic <share>
//	}
func (p *Policy) read(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		p.Name = d.Val()
		if d.NextArg() {
			return d.Errf("option 'breaker' takes one name, got '%s' as well", d.Val())
		}
	}
	err := syntax.Block(d, "breaker",
		syntax.Option{Name: "mode", Read: syntax.Choice(&p.Mode, enforce, shadow)},
		syntax.Option{Name: "window", Read: p.readWindow},
		syntax.Option{Name: "failure_ratio", Read: shareOrOff(&p.FailureRatio)},
		syntax.Option{Name: "slow", Read: p.readSlow},
		syntax.Option{Name: "consecutive", Read: syntax.Count(&p.Consecutive, 1)},
		syntax.Option{Name: "min_requests", Read: syntax.Count(&p.MinRequests, 1)},
		syntax.Option{Name: "min_clients", Read: syntax.Count(&p.MinClients, 1)},
		syntax.Option{Name: "open", Read: p.readOpen},
		syntax.Option{Name: "jitter", Read: shareOrOff(&p.Jitter)},
		syntax.Option{Name: "probes", Read: p.readProbes},
		syntax.Option{Name: "probe_timeout", Read: syntax.Duration(&p.ProbeTimeout)},
		syntax.Option{Name: "half_open_max", Read: syntax.Duration(&p.HalfOpenMax)},
		syntax.Option{Name: "ramp", Read: syntax.Duration(&p.Ramp)},
		syntax.Option{Name: "fail_status", Read: numbers(&p.FailStatus)},
		syntax.Option{Name: "grpc_failures", Read: numbers(&p.GRPCFailures)},
		syntax.Option{Name: "min_deadline", Read: syntax.Duration(&p.MinDeadline)},
		syntax.Option{Name: "max_ejected", Read: syntax.Percent(&p.MaxEjected)},
		syntax.Option{Name: "panic", Read: syntax.Percent(&p.Panic)},
	)
	if err != nil {
		return err
	}
	filled := *p
	filled.fill()
	if err := filled.check(); err != nil {
		return d.Errf("breaker: %v", err)
	}
	return nil
}

func (p *Policy) readWindow(d *caddyfile.Dispenser) error {
	text, err := syntax.One(d, "a duration such as 10s, or a number of results such as 100")
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		p.Count = n
		return nil
	}
	span, err := syntax.ParseDuration(text)
	if err != nil {
		return d.Errf("option 'window' takes a duration such as 10s, or a number of results such as 100, got '%s'", text)
	}
	p.Window = caddy.Duration(span)
	return nil
}

// shareOrOff stores a share, or -1 for off.
func shareOrOff(target *float64) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		next := *d
		if next.NextArg() && next.Val() == "off" {
			*target = -1
			d.NextArg()
			return nil
		}
		return syntax.Percent(target)(d)
	}
}

func (p *Policy) readSlow(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("option 'slow' takes a duration and a share, such as 1s 80%%, got %d arguments", len(args))
	}
	after, err := syntax.ParseDuration(args[0])
	if err != nil {
		return d.Errf("option 'slow' takes a duration such as 500ms or 1s first, got '%s'", args[0])
	}
	p.SlowAfter = caddy.Duration(after)
	if len(args) == 2 {
		return again(d, "slow", args[1], syntax.Percent(&p.SlowRatio))
	}
	return nil
}

func (p *Policy) readOpen(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("option 'open' takes a duration and the longest it may grow to, such as 5s 2m, got %d arguments", len(args))
	}
	if err := again(d, "open", args[0], syntax.Duration(&p.Open)); err != nil || len(args) == 1 {
		return err
	}
	return again(d, "open", args[1], syntax.Duration(&p.OpenMax))
}

func (p *Policy) readProbes(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("option 'probes' takes how many at a time and how many must succeed, such as 3 3, got %d arguments", len(args))
	}
	if err := again(d, "probes", args[0], syntax.Count(&p.Probes, 1)); err != nil || len(args) == 1 {
		return err
	}
	return again(d, "probes", args[1], syntax.Count(&p.Successes, 1))
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
