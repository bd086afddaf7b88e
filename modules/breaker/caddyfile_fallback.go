package breaker

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// readFallback reads one fallback; they are tried in the order they stand.
func (h *Handler) readFallback(helper httpcaddyfile.Helper, d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("option 'fallback' takes respond, alternate or stale, got nothing")
	}
	f := &Fallback{Kind: d.Val()}
	var err error
	switch f.Kind {
	case respond:
		err = f.readRespond(d)
	case alternate:
		err = f.readAlternate(helper, d)
	case stale:
		if d.NextArg() {
			err = d.Errf("option 'fallback stale' takes no argument, got '%s'", d.Val())
		}
	default:
		err = d.Errf("option 'fallback' takes respond, alternate or stale, got '%s'", f.Kind)
	}
	h.Fallbacks = append(h.Fallbacks, f)
	return err
}

func (f *Fallback) readRespond(d *caddyfile.Dispenser) error {
	f.Response = new(caddyhttp.StaticResponse)
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && isStatus(args[0]):
		f.Response.StatusCode = caddyhttp.WeakString(args[0])
	case len(args) == 1:
		f.Response.Body = args[0]
	case len(args) == 2 && isStatus(args[1]):
		f.Response.Body, f.Response.StatusCode = args[0], caddyhttp.WeakString(args[1])
	case len(args) == 2:
		return d.Errf("option 'fallback respond' takes a status from 100 to 599 last, got '%s'", args[1])
	default:
		return d.Errf("option 'fallback respond' takes a body and a status, such as {\"degraded\":true} 503, got %d arguments", len(args))
	}
	return syntax.Block(d, "fallback respond", syntax.Option{Name: "header", Many: true, Read: func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Errf("option 'header' takes a name and a value, got %d arguments", len(args))
		}
		if f.Response.Headers == nil {
			f.Response.Headers = make(map[string][]string)
		}
		f.Response.Headers.Add(args[0], args[1])
		return nil
	}})
}

func isStatus(text string) bool {
	return len(text) == 3 && text[0] >= '1' && text[0] <= '5' && strings.Trim(text[1:], "0123456789") == ""
}

func (f *Fallback) readAlternate(helper httpcaddyfile.Helper, d *caddyfile.Dispenser) error {
	upstreams := caddyfile.Segment{d.Token()}
	for d.NextArg() {
		upstreams = append(upstreams, d.Token())
	}
	err := syntax.Block(d, "fallback alternate",
		syntax.Option{Name: "concurrency", Read: syntax.Count(&f.Concurrency, 1)},
		syntax.Option{Name: "handle", Read: func(d *caddyfile.Dispenser) error {
			routes, err := httpcaddyfile.ParseSegmentAsSubroute(helper.WithDispenser(d.NewFromNextSegment()))
			if err != nil {
				return err
			}
			f.HandleRaw = caddyconfig.JSONModuleObject(routes, "handler", "subroute", nil)
			return nil
		}},
	)
	if err != nil {
		return err
	}
	switch {
	case len(upstreams) == 1 && f.HandleRaw == nil:
		return d.Errf("option 'fallback alternate' takes upstreams such as backup:8080, or a block with handle, got neither")
	case len(upstreams) > 1 && f.HandleRaw != nil:
		return d.Errf("option 'fallback alternate' takes either upstreams or a block with handle, got both")
	case len(upstreams) == 1:
		return nil
	}
	proxy := new(reverseproxy.Handler)
	if err := proxy.UnmarshalCaddyfile(caddyfile.NewDispenser(upstreams)); err != nil {
		return err
	}
	f.HandleRaw = caddyconfig.JSONModuleObject(proxy, "handler", "reverse_proxy", nil)
	return nil
}
