package breaker

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// read reads a bound on concurrency. Syntax:
//
//	concurrency <n>|adaptive [<least> [<most>]] {
//		queue <n>
//		wait <duration>
//	}
func (c *Concurrency) read(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] != "adaptive":
		if err := again(d, "concurrency", args[0], syntax.Count(&c.Limit, 1)); err != nil {
			return err
		}
	case len(args) >= 1 && len(args) <= 3 && args[0] == "adaptive":
		c.Adaptive = true
		for i, target := range []*int{&c.Least, &c.Most} {
			if i+1 >= len(args) {
				break
			}
			if err := again(d, "concurrency adaptive", args[i+1], syntax.Count(target, 1)); err != nil {
				return err
			}
		}
	default:
		return d.Errf("option 'concurrency' takes a number such as 200, or adaptive with the least and the most, such as adaptive 10 1000, got '%s'", strings.Join(args, " "))
	}
	err := syntax.Block(d, "concurrency",
		syntax.Option{Name: "queue", Read: syntax.Count(&c.Queue, 1)},
		syntax.Option{Name: "wait", Read: syntax.Duration(&c.Wait)},
	)
	if err != nil {
		return err
	}
	filled := *c
	filled.fill()
	if err := filled.check(); err != nil {
		return d.Errf("concurrency: %v", err)
	}
	return nil
}

// read reads a retry budget. Syntax:
//
//	retry_budget <share> [<n>/s]|off
func (b *RetryBudget) read(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "off":
		b.Ratio = -1
		return nil
	case len(args) != 1 && len(args) != 2:
		return d.Errf("option 'retry_budget' takes a share and a rate, such as 20%% 1/s, or off, got %d arguments", len(args))
	}
	if err := again(d, "retry_budget", args[0], syntax.Percent(&b.Ratio)); err != nil || len(args) == 1 {
		return err
	}
	number, ok := strings.CutSuffix(args[1], "/s")
	rate, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(rate >= 0 && rate <= 1e6) {
		return d.Errf("option 'retry_budget' takes a rate such as 1/s second, got '%s'", args[1])
	}
	b.PerSecond = rate
	if rate == 0 {
		b.PerSecond = -1
	}
	return nil
}
