package audit

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective("audit", parseHandler)
	httpcaddyfile.RegisterDirectiveOrder("audit", httpcaddyfile.Before, "header")
}

// Handler records every request on its routes as one event: what was asked,
// who asked, what the guards decided, and how it ended. A request that a guard
// refuses is still one event, under the refusal's type. Where handlers are
// nested the outermost records.
type Handler struct {
	// Fields are told of these requests beyond what the `audit` option tells
	// of all: names such as `user_agent`, `query`, `header:X-Request-Id`,
	// `claim:tenant`.
	Fields []string `json:"fields,omitempty"`

	app  *App
	lens lens
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.audit", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the audit app. Without one that is on the handler does nothing.
func (h *Handler) Provision(ctx caddy.Context) error {
	v, err := ctx.App("sallyport_audit")
	if err != nil {
		return err
	}
	app := v.(*App)
	if !app.on {
		ctx.Logger().Warn("audit is off: there is no audit option with a sink, and " + envEnable + " is not true")
		return nil
	}
	h.app = app
	if h.lens, err = grind(app.Fields, app.Redact, string(app.lens.secret), h.Fields); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.app == nil || caddyhttp.GetVar(r.Context(), witnessKey) != nil {
		return next.ServeHTTP(w, r)
	}
	wit := &witness{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, kind: httpKind, h: h, r: r}
	wit.began = time.Now()
	caddyhttp.SetVar(r.Context(), witnessKey, wit)
	// Reverse_proxy panics when an answer breaks off, so the account is
	// settled on the way out, whichever way that is.
	wit.aborted = true
	defer wit.settle()
	err := next.ServeHTTP(wit, r)
	wit.aborted = false
	if wit.status == 0 {
		wit.begin(statusOfError(err))
	}
	if wit.silent {
		return nil // another answer has been given
	}
	return err
}

// statusOfError is what the client will be told by somebody further out.
func statusOfError(err error) int {
	if err == nil {
		return http.StatusOK // what the server sends for a chain that wrote nothing
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
		return he.StatusCode
	}
	return http.StatusInternalServerError
}

// UnmarshalCaddyfile sets up the handler. Syntax:
//
//	audit [<matcher>] {
//		fields <name...>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("audit takes no argument, got '%s'", d.Val())
	}
	return syntax.Block(d, "audit",
		syntax.Option{Name: "fields", Read: func(d *caddyfile.Dispenser) error {
			if err := syntax.Texts(&h.Fields)(d); err != nil {
				return err
			}
			if _, err := grind(nil, Redact{}, "", h.Fields); err != nil {
				return d.Errf("audit: %v", err)
			}
			return nil
		}})
}

func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	a := new(Handler)
	return a, a.UnmarshalCaddyfile(h.Dispenser)
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
