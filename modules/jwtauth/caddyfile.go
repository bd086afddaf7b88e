package jwtauth

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// parseCaddyfile sets up the handler, and misses issuers while file and line
// are known. With `resource` it adds the route of the document.
func parseCaddyfile(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
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
	routes := h.NewRoute(matcher, handler)
	if res := handler.Resource; res != nil {
		document := &Metadata{Resource: res, Issuers: handler.Issuers, DPoP: handler.DPoP, BearerMethods: handler.bearerMethods()}
		at := caddy.ModuleMap{"path": h.JSON(caddyhttp.MatchPath{res.metadataPath()})}
		routes = append(h.NewRoute(at, document), routes...)
	}
	return routes, nil
}

// bearerMethods are the sources that RFC 6750 has a word for.
func (h *Handler) bearerMethods() []string {
	var methods []string
	for _, s := range h.Sources {
		if s.From == "header" && s.Name == "Authorization" || s.From == "query" {
			methods = append(methods, s.From)
		}
	}
	return methods
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
//		origins <origin...>|any
//		streams keep|expire
//		optional
//		preflight pass|check
//		realm <text>
//		client_cert_header
//		dpop {
//			required
//			window <duration>
//			nonce [<secret reference>]
//			replay memory|redis [<name>]
//			algorithms <alg...>
//		}
//		resource <url> {
//			authorization_servers <url...>
//			scopes <scope...>
//			name <text>
//			documentation <url>
//		}
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
		syntax.Option{Name: "origins", Read: h.readOrigins},
		syntax.Option{Name: "streams", Read: syntax.Choice(&h.Streams, "keep", "expire")},
		syntax.Option{Name: "optional", Read: syntax.Flag(&h.Optional)},
		syntax.Option{Name: "preflight", Read: syntax.Choice(&preflight, "pass", "check")},
		syntax.Option{Name: "realm", Read: syntax.Text(&h.Realm)},
		syntax.Option{Name: "client_cert_header", Read: syntax.Flag(&h.ClientCertHeader)},
		syntax.Option{Name: "dpop", Read: h.readDPoP},
		syntax.Option{Name: "resource", Read: h.readResource},
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

func (h *Handler) readOrigins(d *caddyfile.Dispenser) error {
	if err := syntax.Texts(&h.Origins)(d); err != nil {
		return err
	}
	if len(h.Origins) == 1 && h.Origins[0] == "any" {
		h.Origins, h.AnyOrigin = nil, true
	}
	return nil
}

func (h *Handler) readDPoP(d *caddyfile.Dispenser) error {
	h.DPoP = new(DPoP)
	if d.NextArg() {
		return d.Errf("option 'dpop' takes a block only, got '%s'", d.Val())
	}
	return syntax.Block(d, "dpop",
		syntax.Option{Name: "required", Read: syntax.Flag(&h.DPoP.Required)},
		syntax.Option{Name: "window", Read: syntax.Duration(&h.DPoP.Window)},
		syntax.Option{Name: "nonce", Read: func(d *caddyfile.Dispenser) error {
			h.DPoP.Nonce = true
			if d.CountRemainingArgs() == 0 {
				return nil
			}
			return syntax.Text(&h.DPoP.NonceSecret)(d)
		}},
		syntax.Option{Name: "replay", Read: h.DPoP.readReplay},
		syntax.Option{Name: "algorithms", Read: syntax.Texts(&h.DPoP.Algorithms)},
	)
}

func (p *DPoP) readReplay(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "memory":
	case (len(args) == 1 || len(args) == 2) && args[0] == "redis":
		if len(args) == 2 {
			p.Redis = args[1]
		}
	default:
		return d.Err("option 'replay' is written 'replay memory' or 'replay redis [<name>]'")
	}
	p.Replay = args[0]
	return nil
}

func (h *Handler) readResource(d *caddyfile.Dispenser) error {
	h.Resource = new(Resource)
	if err := syntax.Text(&h.Resource.URL)(d); err != nil {
		return err
	}
	return syntax.Block(d, "resource",
		syntax.Option{Name: "authorization_servers", Read: syntax.Texts(&h.Resource.AuthorizationServers)},
		syntax.Option{Name: "scopes", Read: syntax.Texts(&h.Resource.Scopes)},
		syntax.Option{Name: "name", Read: syntax.Text(&h.Resource.Name)},
		syntax.Option{Name: "documentation", Read: syntax.Text(&h.Resource.Documentation)},
	)
}
