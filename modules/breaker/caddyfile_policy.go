package breaker

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// read reads a policy. Syntax:
//
//	breaker [<name>] {
//		mode enforce|shadow
//		window <duration>|<count>
//		failure_ratio <share>|off
//		slow <duration> [<share>]
//		consecutive <n>|off
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
		syntax.Option{Name: "consecutive", Read: countOrOff(&p.Consecutive)},
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

// countOrOff stores a number, or -1 for off.
func countOrOff(target *int) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		next := *d
		if next.NextArg() && next.Val() == "off" {
			*target = -1
			d.NextArg()
			return nil
		}
		return syntax.Count(target, 1)(d)
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
