package admin

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("admin_api", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("admin_api", httpcaddyfile.Before, "respond")
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	admin_api [<matcher>] {
//		upstream <address>
//		permit stop|debug [<scope>]
//		unrecorded
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("admin_api takes no argument, got '%s'", d.Val())
	}
	return syntax.Block(d, "admin_api",
		syntax.Option{Name: "upstream", Read: syntax.Text(&h.Upstream)},
		syntax.Option{Name: "permit", Many: true, Read: h.readPermit},
		syntax.Option{Name: "unrecorded", Read: syntax.Flag(&h.Unrecorded)})
}

func (h *Handler) readPermit(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 || !slices.Contains(areas, args[0]) {
		return d.Errf("option 'permit' takes one of %s and perhaps a scope, got '%s'", strings.Join(areas, ", "), strings.Join(args, " "))
	}
	p := Permit{Area: args[0]}
	if len(args) == 2 {
		p.Scope = args[1]
	}
	h.Permits = append(h.Permits, p)
	return nil
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	a := new(Handler)
	return a, a.UnmarshalCaddyfile(h.Dispenser)
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
