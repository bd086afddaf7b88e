package telemetry

import (
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { httpcaddyfile.RegisterGlobalOption("telemetry", parseGlobal) }

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	telemetry [<matcher>] [<route>] {
//		trust_traceparent always|never|private|<ranges...>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		h.Route = d.Val()
		if d.NextArg() {
			return d.Errf("telemetry takes the name of a route, and nothing after it, got '%s'", d.Val())
		}
	}
	return syntax.Block(d, "telemetry", syntax.Option{Name: "trust_traceparent", Read: trusted(&h.Trust)})
}

// UnmarshalCaddyfile sets up the app. Syntax:
//
//	telemetry {
//		service           <name>
//		endpoint          <url>
//		protocol          grpc|http/protobuf
//		header            <name> <value>
//		headers_file      <path>
//		compression       gzip|none
//		timeout           <duration>
//		tls {
//			ca            <path>
//			certificate   <path>
//			key           <path>
//		}
//		signals           <traces|metrics|logs...>
//		sampler           <name> [<ratio>]
//		propagators       <name...>
//		trust_traceparent always|never|private|<ranges...>
//		attribute         <key> <value>
//		metrics_interval  <duration>
//		subject           plain|hash|off
//	}
//
// header and attribute may stand more than once.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("telemetry takes no argument, got '%s'", d.Val())
	}
	a.Headers, a.Attributes = make(map[string]string), make(map[string]string)
	err := syntax.Block(d, "telemetry",
		syntax.Option{Name: "service", Read: syntax.Text(&a.Service)},
		syntax.Option{Name: "endpoint", Read: checked(&a.Endpoint, func(e *environment, s string) { e.url(s, "") })},
		syntax.Option{Name: "protocol", Read: syntax.Choice(&a.Protocol, "grpc", "http/protobuf")},
		syntax.Option{Name: "header", Many: true, Read: pair(a.Headers)},
		syntax.Option{Name: "headers_file", Read: syntax.Text(&a.HeadersFile)},
		syntax.Option{Name: "compression", Read: syntax.Choice(&a.Compression, "gzip", "none")},
		syntax.Option{Name: "timeout", Read: syntax.Duration(&a.Timeout)},
		syntax.Option{Name: "tls", Read: a.readTLS},
		syntax.Option{Name: "signals", Read: syntax.Texts(&a.Signals)},
		syntax.Option{Name: "sampler", Read: a.readSampler},
		syntax.Option{Name: "propagators", Read: syntax.Texts(&a.Propagators)},
		syntax.Option{Name: "trust_traceparent", Read: trusted(&a.Trust)},
		syntax.Option{Name: "attribute", Many: true, Read: pair(a.Attributes)},
		syntax.Option{Name: "metrics_interval", Read: syntax.Duration(&a.MetricsInterval)},
		syntax.Option{Name: "subject", Read: syntax.Choice(&a.Subject, "plain", "hash", "off")},
	)
	if err != nil {
		return err
	}
	// What is wrong whatever the environment says is refused with its line.
	e := environment{getenv: func(string) string { return "" }}
	e.carrier(a.Propagators)
	for _, name := range a.Signals {
		if !slices.ContainsFunc(signals, func(s signal) bool { return s.name == name }) {
			e.fail("signals are traces, metrics and logs, not '%s'", name)
		}
	}
	if e.err != nil {
		return d.WrapErr(e.err)
	}
	return nil
}

func (a *App) readTLS(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("option 'tls' takes a block, got '%s'", d.Val())
	}
	a.TLS = new(TLS)
	return syntax.Block(d, "telemetry tls",
		syntax.Option{Name: "ca", Read: syntax.Text(&a.TLS.CA)},
		syntax.Option{Name: "certificate", Read: syntax.Text(&a.TLS.Certificate)},
		syntax.Option{Name: "key", Read: syntax.Text(&a.TLS.Key)},
	)
}

func (a *App) readSampler(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.Errf("option 'sampler' takes a name and maybe a ratio, got %d arguments", len(args))
	}
	a.Sampler = args[0]
	if len(args) == 2 {
		ratio, err := strconv.ParseFloat(args[1], 64)
		if err != nil {
			return d.Errf("option 'sampler' takes a ratio from 0 to 1, got '%s'", args[1])
		}
		a.Ratio = &ratio
	}
	e := environment{getenv: func(string) string { return "" }}
	if e.sampler(a.Sampler, a.Ratio); e.err != nil {
		return d.WrapErr(e.err)
	}
	return nil
}

func trusted(target *[]string) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		if err := syntax.Texts(target)(d); err != nil {
			return err
		}
		e := environment{}
		if e.trust(*target); e.err != nil {
			return d.WrapErr(e.err)
		}
		return nil
	}
}

func checked(target *string, check func(*environment, string)) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		if err := syntax.Text(target)(d); err != nil {
			return err
		}
		e := environment{}
		if check(&e, *target); e.err != nil {
			return d.WrapErr(e.err)
		}
		return nil
	}
}

func pair(target map[string]string) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Errf("option '%s' takes a name and a value, got %d arguments", option, len(args))
		}
		if _, twice := target[args[0]]; twice {
			return d.Errf("option '%s' is given twice for '%s'", option, args[0])
		}
		target[args[0]] = args[1]
		return nil
	}
}

func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("telemetry is configured twice")
	}
	a := new(App)
	if err := a.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "sallyport_telemetry", Value: caddyconfig.JSON(a, nil)}, nil
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

var (
	_ caddyfile.Unmarshaler = (*Handler)(nil)
	_ caddyfile.Unmarshaler = (*App)(nil)
)
