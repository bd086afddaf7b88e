package jwtauth

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// parseCaddyfile sets up the handler, and misses issuers while file and line
// are known.
func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	app := new(Issuers)
	if option, ok := h.Option("issuer").(httpcaddyfile.App); ok {
		if err := json.Unmarshal(option.Value, app); err != nil {
			return nil, err
		}
	}
	if _, err := app.named(handler.Issuers); err != nil {
		h.Reset()
		h.Next()
		return nil, h.Errf("jwt: %v; a global option 'issuer <name>' makes one", err)
	}
	return handler, nil
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	jwt [<matcher>] <issuer...> {
//		require [all|any] scope|role <value...>
//		require [all|any] claim <path> [<value...>]
//		forward <claim> <header> [plain|json|base64url]
//		source header [<name>]
//		source cookie <name>
//		source query [<name>]
//		source websocket
//		token keep|strip
//		optional
//		preflight pass|check
//		realm <text>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if h.Issuers = d.RemainingArgs(); len(h.Issuers) == 0 {
		return d.Err("jwt takes the names of one or more issuers, got none")
	}
	var preflight string
	err := syntax.Block(d, "jwt",
		syntax.Option{Name: "require", Many: true, Read: h.readRequire},
		syntax.Option{Name: "forward", Many: true, Read: h.readForward},
		syntax.Option{Name: "source", Many: true, Read: h.readSource},
		syntax.Option{Name: "token", Read: syntax.Choice(&h.Token, "keep", "strip")},
		syntax.Option{Name: "optional", Read: syntax.Flag(&h.Optional)},
		syntax.Option{Name: "preflight", Read: syntax.Choice(&preflight, "pass", "check")},
		syntax.Option{Name: "realm", Read: syntax.Text(&h.Realm)},
	)
	if err != nil {
		return err
	}
	h.Preflight = preflight == "pass"
	if err := h.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (h *Handler) readRequire(d *caddyfile.Dispenser) error {
	const forms = "'require [all|any] scope|role <value...>' or 'require [all|any] claim <path> [<value...>]'"
	var q Requirement
	args := d.RemainingArgs()
	if len(args) > 0 && (args[0] == "any" || args[0] == "all") {
		q.Any = args[0] == "any"
		args = args[1:]
	}
	if len(args) < 2 {
		return d.Errf("option 'require' is written %s", forms)
	}
	switch args[0] {
	case "scope":
		q.Scopes = args[1:]
	case "role":
		q.Roles = args[1:]
	case "claim":
		q.Claim, q.Values = args[1], args[2:]
	default:
		return d.Errf("option 'require' takes scope, role or claim, got '%s'; it is written %s", args[0], forms)
	}
	if err := q.check(); err != nil {
		return d.Errf("option 'require': %v", err)
	}
	h.Require = append(h.Require, q)
	return nil
}

func (h *Handler) readForward(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 && len(args) != 3 {
		return d.Errf("option 'forward' is written 'forward <claim> <header> [plain|json|base64url]', got %d arguments", len(args))
	}
	f := Forward{Claim: args[0], Header: args[1]}
	if len(args) == 3 {
		f.As = args[2]
	}
	if err := f.check(); err != nil {
		return d.Errf("option 'forward': %v", err)
	}
	h.Forward = append(h.Forward, f)
	return nil
}

func (h *Handler) readSource(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("option 'source' takes header, cookie, query or websocket, and a name, got %d arguments", len(args))
	}
	s := Source{From: args[0]}
	if len(args) == 2 {
		s.Name = args[1]
	}
	if err := s.check(); err != nil {
		return d.Errf("option 'source': %v", err)
	}
	h.Sources = append(h.Sources, s)
	return nil
}
