package rollout

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// UnmarshalCaddyfile reads the option of the `flags` block. Syntax:
//
//	rollout <flag> [<release>] {
//		canary <variant>
//		stable <variant>
//		steps <share> <duration>, … 100%
//		manual
//		min_requests <n>
//		error_ratio <share>|off
//		latency_p95 <share>|off
//		breaker_trips <share>|off
//		redis <name>
//	}
func (r *Rollout) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.Errf("rollout takes a flag and, if need be, a release, such as rollout checkout v2, got %d arguments", len(args))
	}
	r.FlagName = args[0]
	if len(args) == 2 {
		r.Release = args[1]
	}
	owner := "rollout " + r.FlagName
	err := syntax.Block(d, owner,
		syntax.Option{Name: "canary", Read: syntax.Text(&r.Canary)},
		syntax.Option{Name: "stable", Read: syntax.Text(&r.Stable)},
		syntax.Option{Name: "steps", Read: r.readSteps},
		syntax.Option{Name: "manual", Read: syntax.Flag(&r.Manual)},
		syntax.Option{Name: "min_requests", Read: syntax.Count(&r.MinRequests, 1)},
		syntax.Option{Name: "error_ratio", Read: margin(&r.ErrorRatio)},
		syntax.Option{Name: "latency_p95", Read: margin(&r.LatencyP95)},
		syntax.Option{Name: "breaker_trips", Read: margin(&r.BreakerTrips)},
		syntax.Option{Name: "redis", Read: syntax.Text(&r.Redis)},
	)
	if err != nil {
		return err
	}
	r.plan = r.makePlan()
	if err := r.check(); err != nil {
		return d.Errf("%s: %v", owner, err)
	}
	return nil
}

// readSteps reads shares and times; the commas between steps are for the reader.
func (r *Rollout) readSteps(d *caddyfile.Dispenser) error {
	const form = "shares and how long each must be healthy, such as 5% 15m, 25% 15m, 100%"
	line := strings.Join(d.RemainingArgs(), " ")
	for part := range strings.SplitSeq(line, ",") {
		words := strings.Fields(part)
		if len(words) < 1 || len(words) > 2 {
			return d.Errf("option 'steps' takes %s, got '%s'", form, line)
		}
		number, percent := strings.CutSuffix(words[0], "%")
		share, err := strconv.ParseFloat(number, 64)
		if err != nil || !percent {
			return d.Errf("option 'steps' takes %s; '%s' is no share", form, words[0])
		}
		s := Step{Share: share / 100}
		if len(words) == 2 {
			value, err := syntax.ParseDuration(words[1])
			if err != nil {
				return d.Errf("option 'steps' takes %s; '%s' is no duration", form, words[1])
			}
			s.For = caddy.Duration(value)
		}
		r.Steps = append(r.Steps, s)
	}
	return nil
}

// margin reads a share, or off.
func margin(target *float64) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		const form = "a share above 0 such as 1%, or off"
		word, err := syntax.One(d, form)
		if err != nil {
			return err
		}
		if word == "off" {
			*target = -1
			return nil
		}
		number, percent := strings.CutSuffix(word, "%")
		value, err := strconv.ParseFloat(number, 64)
		if percent {
			value /= 100
		}
		if err != nil || !(value > 0 && value <= 10) {
			return d.Errf("option '%s' takes %s, got '%s'", option, form, word)
		}
		*target = value
		return nil
	}
}

var _ caddyfile.Unmarshaler = (*Rollout)(nil)
