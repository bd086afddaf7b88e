package health

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	health [<matcher>] {
//		live     <path>
//		ready    <path>
//		required <check...>
//		degraded <check...>
//	}
//
// The checks are issuers, redis, audit, telemetry, flags and upstreams, and
// upstreams:<breaker> to require those of one breaker.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("health takes no argument, got '%s'", d.Val())
	}
	err := syntax.Block(d, "health",
		syntax.Option{Name: "live", Read: path(&h.Live)},
		syntax.Option{Name: "ready", Read: path(&h.Ready)},
		syntax.Option{Name: "required", Read: syntax.Texts(&h.Required)},
		syntax.Option{Name: "degraded", Read: syntax.Texts(&h.Degraded)},
	)
	if err != nil {
		return err
	}
	if err := h.policy(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func path(target *string) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		value, err := syntax.One(d, "a path")
		if err != nil {
			return err
		}
		if !strings.HasPrefix(value, "/") {
			return d.Errf("option '%s' takes a path that begins with '/', got '%s'", option, value)
		}
		*target = value
		return nil
	}
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
