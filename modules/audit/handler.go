package audit

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
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
	wit := &witness{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, kind: httpKind}
	wit.began = time.Now()
	caddyhttp.SetVar(r.Context(), witnessKey, wit)
	// Reverse_proxy panics when an answer breaks off, so the account is
	// settled on the way out, whichever way that is.
	wit.aborted = true
	defer h.settle(wit, r)
	err := next.ServeHTTP(wit, r)
	wit.aborted = false
	wit.answer(err)
	return err
}

// settle writes the event of a request that has ended.
func (h *Handler) settle(w *witness, r *http.Request) {
	a := h.app
	now := time.Now()
	w.heard = true // what is reported from now on is an event of its own
	if w.kind.name != httpKind.name && a.swallow(w.kind, w.code, clientIP(r), now) {
		exchange.Of(r).Audited = true // the flood's event tells of it
		return
	}
	w.ended, w.took = true, now.Sub(w.began)
	p := a.pen()
	a.request(p, &h.lens, w.kind, now, r, &w.outcome)
	// A failure is counted, and a loss told.
	exchange.Of(r).Audited = a.write(w.kind.class, now, p.b) == nil
	a.putBack(p)
}

const witnessKey = "sallyport.audit"

// witness sees one request through. It is the request's response writer and
// the variable by which a refusal finds it, which makes both one allocation.
type witness struct {
	caddyhttp.ResponseWriterWrapper
	outcome
	kind  eventKind
	began time.Time
	heard bool
}

// hear takes a refusal into the request's event. Of several the first counts,
// the others become events of their own.
func (w *witness) hear(k eventKind, f exchange.Fact) bool {
	if w.heard || exchange.Of(f.Request).Refusal.Code != f.Code {
		return false
	}
	w.heard = true
	w.kind, w.code, w.attrs = k, f.Code, attrText(f)
	w.room = exchange.Of(f.Request).Refusal.Room
	return true
}

// answer takes the status from an error that somebody further out will render.
func (w *witness) answer(err error) {
	switch {
	case w.status != 0:
		return
	case err == nil:
		w.status = http.StatusOK // what the server sends for a chain that wrote nothing
		return
	}
	w.status = http.StatusInternalServerError
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
		w.status = he.StatusCode
	}
}

func (w *witness) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

func (w *witness) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriterWrapper.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *witness) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriterWrapper.ReadFrom(r)
	w.bytes += n
	return n, err
}

// String keeps the witness out of anything that prints request variables.
func (*witness) String() string { return "" }

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
