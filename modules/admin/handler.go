// Package admin is the office: the only way in to Caddy's admin API from the
// network, a route like any other, with every call on record.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

func init() { caddy.RegisterModule(new(Handler)) }

// Handler passes requests on to Caddy's admin endpoint and records each: who
// asked, what for, and how it ended. What changes something is recorded before
// it is made and again with its outcome before the caller hears of it; what
// cannot be recorded is not made.
//
// It decides who may pass no more than a reverse proxy does: put `jwt` or
// client certificates in front of it.
type Handler struct {
	// Upstream is the admin endpoint, as Caddy writes addresses. Default: that
	// of the configuration.
	Upstream string `json:"upstream,omitempty"`

	// Permits open areas that are closed to everybody else.
	Permits []Permit `json:"permits,omitempty"`

	// Unrecorded lets calls through without any audit.
	Unrecorded bool `json:"unrecorded,omitempty"`

	app    *audit.App
	api    *audit.AdminAPI
	proxy  *httputil.ReverseProxy
	logger *zap.Logger
}

// Permit opens one area of the admin API.
type Permit struct {
	// Area is `stop`, which ends the process, or `debug`, which shows its memory.
	Area string `json:"area,omitempty"`
	// Scope is the scope that a caller's token must have. Empty: none.
	Scope string `json:"scope,omitempty"`
}

var areas = []string{"stop", "debug"}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.admin_api", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the record room.
func (h *Handler) Provision(ctx caddy.Context) (err error) {
	h.logger = ctx.Logger()
	if err := reject.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	for _, p := range h.Permits {
		if !slices.Contains(areas, p.Area) {
			return fmt.Errorf("admin_api: unknown area '%s'; the areas are: %s", p.Area, strings.Join(areas, ", "))
		}
	}
	if h.api, err = audit.NewAdminAPI(audit.AdminAddress(ctx, h.Upstream)); err != nil {
		return fmt.Errorf("admin_api: %w", err)
	}
	v, err := ctx.App("sallyport_audit")
	if err != nil {
		return err
	}
	h.app = v.(*audit.App)
	if !h.app.On() && !h.Unrecorded {
		return errors.New("admin_api: audit is off, so nobody would know who changed the configuration; switch it on, or write 'unrecorded'")
	}
	to, err := url.Parse(h.api.Base)
	if err != nil {
		return err
	}
	h.proxy = &httputil.ReverseProxy{
		Transport: h.api.Client.Transport, FlushInterval: -1,
		Rewrite:      func(r *httputil.ProxyRequest) { rewrite(r, to) },
		ErrorHandler: h.unreachable,
		ErrorLog:     zap.NewStdLog(h.logger),
	}
	return nil
}

// rewrite addresses the request to the endpoint, and leaves out what is meant
// for the front: the caller's credentials, and what browsers add.
func rewrite(r *httputil.ProxyRequest, to *url.URL) {
	r.SetURL(to)
	for _, name := range []string{"Authorization", "Cookie", "Referer"} {
		r.Out.Header.Del(name)
	}
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if ref := h.judge(r); ref != nil {
		return reject.Refuse(w, r, ref)
	}
	mark := audit.OwnCall()
	r.Header.Set(audit.CallHeader, mark)
	if !h.app.On() {
		h.proxy.ServeHTTP(w, r)
		return nil
	}
	c := &call{Call: audit.Call{ID: audit.NewCallID(), Mark: mark, Request: r, Method: r.Method, Path: r.URL.Path}, h: h, began: time.Now()}
	if !c.changes() {
		if err := h.app.Intend(&c.Call); err != nil {
			return reject.Refuse(w, r, unavailable(err))
		}
		return c.pass(w, r)
	}
	// One change at a time, so that before and after belong to it.
	select {
	case changing <- struct{}{}:
		defer func() { <-changing }()
	case <-r.Context().Done():
		return caddyhttp.Error(http.StatusServiceUnavailable, r.Context().Err())
	}
	if err := h.app.Intend(&c.Call); err != nil {
		return reject.Refuse(w, r, unavailable(err))
	}
	c.before = c.config(r.Context())
	defer h.app.Calling(&c.Call)()
	return c.pass(w, r)
}

// changing is held by whoever changes the configuration. It outlives reloads,
// which are what it is about.
var changing = make(chan struct{}, 1)

// judge refuses what nobody may ask, or what this caller may not.
func (h *Handler) judge(r *http.Request) *reject.Refusal {
	p := r.URL.Path
	// The endpoint cleans paths before it looks at them; what it would see
	// differently than we do is not let through.
	if clean := path.Clean("/" + p); clean != strings.TrimSuffix(p, "/") && clean != p {
		return &reject.Refusal{Room: "admin_api", Kind: exchange.Kind("admin.refused"), Status: http.StatusBadRequest,
			Code: "admin-path", Title: "Unclean path", Hint: "Send the path without empty, '.' and '..' segments."}
	}
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Mode") != "" {
		return &reject.Refusal{Room: "admin_api", Kind: exchange.Kind("admin.refused"), Status: http.StatusForbidden,
			Code: "admin-browser", Title: "Not for browsers", Hint: "The admin API does not answer requests that a web page makes."}
	}
	area, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	if !slices.Contains(areas, area) {
		return nil
	}
	for _, permit := range h.Permits {
		if permit.Area == area && (permit.Scope == "" || hasScope(exchange.Of(r).Identity.Claims, permit.Scope)) {
			return nil
		}
	}
	return &reject.Refusal{Room: "admin_api", Kind: exchange.Kind("admin.refused"), Status: http.StatusForbidden,
		Code: "admin-forbidden", Title: "Not permitted", Hint: "This part of the admin API needs a permission of its own."}
}

func hasScope(claims exchange.Claims, scope string) bool {
	if claims == nil {
		return false
	}
	for _, name := range []string{"scope", "scp"} {
		switch v, _ := claims.Claim(name); x := v.(type) {
		case string:
			if slices.Contains(strings.Fields(x), scope) {
				return true
			}
		case []any:
			if slices.Contains(x, any(scope)) {
				return true
			}
		case []string:
			if slices.Contains(x, scope) {
				return true
			}
		}
	}
	return false
}

func unavailable(err error) *reject.Refusal {
	return &reject.Refusal{Room: "admin_api", Kind: exchange.Kind("admin.refused"), Status: http.StatusServiceUnavailable,
		Code: "audit-unavailable", Title: "Audit is unavailable", RetryAfter: 5 * time.Second, Err: err,
		Hint: "The call cannot be put on record, so it was not made."}
}

// unreachable answers where the endpoint does not.
func (h *Handler) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody is there to hear it
	}
	h.logger.Error("reach the admin endpoint", zap.String("admin", h.api.Base), zap.Error(err))
	if err := reject.Refuse(w, r, &reject.Refusal{Room: "admin_api", Kind: exchange.Kind("admin.refused"), Status: http.StatusBadGateway,
		Code: "admin-unreachable", Title: "Admin endpoint unreachable", Err: err}); err != nil {
		reject.Write(w, r, err)
	}
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
