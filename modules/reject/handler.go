package reject

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() {
	caddy.RegisterModule(new(Problem))
	httpcaddyfile.RegisterHandlerDirective("problem", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("problem", httpcaddyfile.Before, "redir")
}

// Problem answers every error that the handlers behind it return, in the
// client's own protocol: `application/problem+json` (RFC 9457), or a
// Trailers-Only answer to gRPC callers. An error that one of the site's
// `handle_errors` routes would answer is left to that route, except for gRPC
// callers, who could not read its page.
type Problem struct{}

// CaddyModule returns the Caddy module information.
func (*Problem) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.problem",
		New: func() caddy.Module { return new(Problem) },
	}
}

// Provision registers the metrics.
func (p *Problem) Provision(ctx caddy.Context) error {
	return Register(ctx.GetMetricsRegistry())
}

func (p *Problem) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	exchange.Of(r).Spoken = true
	started := &startedWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	err := next.ServeHTTP(started, r)
	if err == nil || started.started {
		return err
	}
	if !isGRPC(r) && answered(r, err) {
		return err
	}
	Write(w, r, err)
	return nil
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	problem [<matcher>]
func (p *Problem) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("problem takes no argument, got '%s'", d.Val())
	}
	if d.NextBlock(0) {
		return d.Errf("problem takes no block, got '%s'", d.Val())
	}
	return nil
}

// startedWriter knows whether an answer has begun, after which no other can.
type startedWriter struct {
	*caddyhttp.ResponseWriterWrapper
	started bool
}

func (s *startedWriter) WriteHeader(status int) {
	// 1xx answers but 101 are followed by the real one.
	s.started = s.started || status >= 200 || status == http.StatusSwitchingProtocols
	s.ResponseWriterWrapper.WriteHeader(status)
}

func (s *startedWriter) Write(p []byte) (int, error) {
	s.started = true
	return s.ResponseWriterWrapper.Write(p)
}

func (s *startedWriter) ReadFrom(r io.Reader) (int64, error) {
	s.started = true
	return s.ResponseWriterWrapper.ReadFrom(r)
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := new(Problem)
	return p, p.UnmarshalCaddyfile(h.Dispenser)
}

var (
	_ caddy.Provisioner           = (*Problem)(nil)
	_ caddyhttp.MiddlewareHandler = (*Problem)(nil)
	_ caddyfile.Unmarshaler       = (*Problem)(nil)
)
