package cache

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/sallyport-gateway/sallyport/modules/redispool"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("cache", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("cache", httpcaddyfile.After, "encode")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	cache [<matcher>] {
//		name <name>
//		memory <size>
//		max_object <size>
//		max_variants <n>
//		key {
//			query <parameters...>
//			ignore_query <parameters...>
//			sort_query
//			header <fields...>
//			identity
//			add <templates...>
//		}
//		stale_while_revalidate <duration>
//		stale_if_error <duration>
//		negative <duration> [<statuses...>]
//		heuristic <share> [<duration>]
//		targets <fields...>
//		tags <fields...>
//		client_directives honour|ignore
//		redis [<name>]
//		redis_max_object <size>
//		redis_only
//		collapse off
//		collapse <n> [<duration>]
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("cache takes no argument but a matcher, got '%s'", d.Val())
	}
	err := syntax.Block(d, "cache",
		syntax.Option{Name: "name", Read: syntax.Text(&h.Name)},
		syntax.Option{Name: "memory", Read: size(&h.Memory)},
		syntax.Option{Name: "max_object", Read: size(&h.MaxObject)},
		syntax.Option{Name: "max_variants", Read: syntax.Count(&h.MaxVariants, 1)},
		syntax.Option{Name: "key", Read: h.readKey},
		syntax.Option{Name: "stale_while_revalidate", Read: syntax.Duration(&h.StaleWhileRevalidate)},
		syntax.Option{Name: "stale_if_error", Read: syntax.Duration(&h.StaleIfError)},
		syntax.Option{Name: "negative", Read: h.readNegative},
		syntax.Option{Name: "heuristic", Read: h.readHeuristic},
		syntax.Option{Name: "targets", Read: syntax.Texts(&h.Targets)},
		syntax.Option{Name: "tags", Read: syntax.Texts(&h.Tags)},
		syntax.Option{Name: "client_directives", Read: syntax.Choice(&h.ClientDirectives, "honour", "ignore")},
		syntax.Option{Name: "redis", Read: h.readRedis},
		syntax.Option{Name: "redis_max_object", Read: size(&h.RedisMaxObject)},
		syntax.Option{Name: "redis_only", Read: syntax.Flag(&h.RedisOnly)},
		syntax.Option{Name: "collapse", Read: h.readCollapse},
	)
	if err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (h *Handler) readKey(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("option 'key' takes a block, got '%s'", d.Val())
	}
	h.Key = new(Key)
	return syntax.Block(d, "key",
		syntax.Option{Name: "query", Read: syntax.Texts(&h.Key.Query)},
		syntax.Option{Name: "ignore_query", Read: syntax.Texts(&h.Key.IgnoreQuery)},
		syntax.Option{Name: "sort_query", Read: syntax.Flag(&h.Key.SortQuery)},
		syntax.Option{Name: "header", Read: syntax.Texts(&h.Key.Header)},
		syntax.Option{Name: "identity", Read: syntax.Flag(&h.Key.Identity)},
		syntax.Option{Name: "add", Read: syntax.Texts(&h.Key.Add)},
	)
}

func (h *Handler) readRedis(d *caddyfile.Dispenser) error {
	h.Redis = redispool.Default
	if d.NextArg() {
		h.Redis = d.Val()
	}
	if d.NextArg() {
		return d.Errf("option 'redis' takes the name of a redis client, or nothing, got '%s' beside it", d.Val())
	}
	return nil
}

func (h *Handler) readNegative(d *caddyfile.Dispenser) error {
	n := new(Negative)
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err("option 'negative' takes a duration and statuses, such as negative 10s 404 410, got nothing")
	}
	life, err := syntax.ParseDuration(args[0])
	if err != nil {
		return d.Errf("option 'negative' takes a duration such as 10s first, got '%s'", args[0])
	}
	n.For = caddy.Duration(life)
	for _, arg := range args[1:] {
		status, err := strconv.Atoi(arg)
		if err != nil {
			return d.Errf("option 'negative' takes statuses of 404, 405, 410, 414, 501, got '%s'", arg)
		}
		n.Status = append(n.Status, status)
	}
	h.Negative = n
	return nil
}

func (h *Handler) readHeuristic(d *caddyfile.Dispenser) error {
	u := new(Heuristic)
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("option 'heuristic' takes a share and the longest lifetime, such as heuristic 10%% 24h, got %d arguments", len(args))
	}
	if !share(&u.Share, args[0]) {
		return d.Errf("option 'heuristic' takes a share such as 10%% or 0.1, above 0 and up to 100%%, got '%s'", args[0])
	}
	if len(args) == 2 {
		most, err := syntax.ParseDuration(args[1])
		if err != nil {
			return d.Errf("option 'heuristic' takes a duration such as 24h after the share, got '%s'", args[1])
		}
		u.Most = caddy.Duration(most)
	}
	h.Heuristic = u
	return nil
}

func (h *Handler) readCollapse(d *caddyfile.Dispenser) error {
	c := new(Collapse)
	h.Collapse = c
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("option 'collapse' takes off, or how many may wait and how long, such as collapse 1000 10s; got %d arguments", len(args))
	}
	if args[0] == "off" && len(args) == 1 {
		c.Off = true
		return nil
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 {
		return d.Errf("option 'collapse' takes off, or a whole number of at least 1, got '%s'", args[0])
	}
	c.Most = n
	if len(args) == 2 {
		timeout, err := syntax.ParseDuration(args[1])
		if err != nil {
			return d.Errf("option 'collapse' takes a duration such as 10s second, got '%s'", args[1])
		}
		c.Timeout = caddy.Duration(timeout)
	}
	return nil
}

// share reads `10%` or `0.1`.
func share(target *float64, text string) bool {
	number, percent := strings.CutSuffix(text, "%")
	value, err := strconv.ParseFloat(number, 64)
	if percent {
		value /= 100
	}
	*target = value
	return err == nil && value > 0 && value <= 1
}

// size reads a number of bytes such as 64MiB.
func size(target *int64) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		text, err := syntax.One(d, "a size such as 64MiB")
		if err != nil {
			return err
		}
		n, err := humanize.ParseBytes(text)
		if err != nil || n == 0 || n > 1<<50 {
			return d.Errf("option '%s' takes a size such as 64MiB, got '%s'", option, text)
		}
		*target = int64(n)
		return nil
	}
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
