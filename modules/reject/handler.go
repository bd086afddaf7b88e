package reject

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() {
	caddy.RegisterModule(new(Problem))
	httpcaddyfile.RegisterHandlerDirective("problem", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("problem", httpcaddyfile.Before, "redir")
}

// Problem answers every error that the handlers behind it return, in the
// client's own protocol: gRPC, gRPC-Web or Connect, or else
// `application/problem+json` (RFC 9457), a page or plain text, by Accept. An
// error that one of the site's `handle_errors` routes would answer is left to
// that route, except for RPC callers, who could not read its page. Inside `handle_errors` it answers the
// error that led there.
//
// An error that it answers never reaches Caddy's error log, so Problem writes
// that line itself: at ERROR from status 500 on, at DEBUG below and for
// refusals, which are decisions and have a counter and an audit event.
type Problem struct {
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Problem) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.problem",
		New: func() caddy.Module { return new(Problem) },
	}
}

// Provision registers the metrics.
func (p *Problem) Provision(ctx caddy.Context) error {
	if err := exchange.Muster(ctx); err != nil {
		return err
	}
	p.logger = ctx.Logger()
	return Register(ctx.GetMetricsRegistry())
}

func (p *Problem) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err, ok := r.Context().Value(caddyhttp.ErrorCtxKey).(error); ok {
		Write(w, r, err)
		return nil
	}
	exchange.Of(r).Spoken = true
	watched, knows := w.(Beginner)
	if !knows {
		a := &answer{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
		w, watched = a, a
	}
	err := next.ServeHTTP(w, r)
	if err == nil || watched.Begun() {
		return err
	}
	if tongueOf(r) == document && answered(r, err) {
		return err
	}
	p.log(err)
	Write(w, r, err)
	return nil
}

func (p *Problem) log(err error) {
	level, status := zapcore.DebugLevel, statusOf(err)
	if status >= http.StatusInternalServerError && From(err) == nil {
		level = zapcore.ErrorLevel
	}
	if !p.logger.Core().Enabled(level) {
		return // the text of an error costs more than its answer
	}
	if c := p.logger.Check(level, err.Error()); c != nil {
		c.Write(zap.Int("status", status))
	}
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

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := new(Problem)
	return p, p.UnmarshalCaddyfile(h.Dispenser)
}

var (
	_ caddy.Provisioner           = (*Problem)(nil)
	_ caddyhttp.MiddlewareHandler = (*Problem)(nil)
	_ caddyfile.Unmarshaler       = (*Problem)(nil)
)
