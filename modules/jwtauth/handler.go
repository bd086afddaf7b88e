package jwtauth

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterDirective("jwt", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("jwt", httpcaddyfile.After, "try_files")
}

// Handler lets a request pass whose token one of its issuers signed, for this
// audience, for now, and for what this route demands.
//
// Placeholder | Meaning
// ------------|--------
// `{http.auth.user.id}` | The token's `sub`
// `{http.auth.user.<claim>}` | A claim, by name or JSON Pointer, such as `{http.auth.user./realm_access/roles}`
// `{sallyport.subject}` | The token's `sub`
// `{sallyport.issuer}` | The configured name of the issuer
type Handler struct {
	// Issuers are names of the `sallyport_issuers` app. A token must be from
	// one of them. Required.
	Issuers []string `json:"issuers,omitempty"`
	// Sources are the places where a token may be. Default: the Authorization
	// header.
	Sources []Source `json:"sources,omitempty"`
	// Require is what the token must say.
	Require []Requirement `json:"require,omitempty"`
	// Forward is what the upstream is told.
	Forward []Forward `json:"forward,omitempty"`
	// Optional lets requests without a token pass as anonymous. A bad token is
	// refused all the same.
	Optional bool `json:"optional,omitempty"`
	// Token is `keep` or `strip`: whether the upstream gets the token. Default:
	// keep for the header, strip for the other sources.
	Token string `json:"token,omitempty"`
	// Preflight lets CORS preflight requests pass without a token.
	Preflight bool `json:"preflight,omitempty"`
	// Origins are further origins whose pages may make a browser send the token
	// from a cookie, such as `https://app.example.com`. Default: those of the
	// request's own host.
	Origins []string `json:"origins,omitempty"`
	// AnyOrigin leaves that to somebody else.
	AnyOrigin bool `json:"any_origin,omitempty"`
	// Streams is `keep` or `expire`: whether an answer that is still under way
	// when its token expires goes on. Default: keep.
	Streams string `json:"streams,omitempty"`
	// Realm is the realm of the challenge. Default: `api`.
	Realm string `json:"realm,omitempty"`
	// ClientCertHeader takes the client's certificate from the header
	// Client-Cert (RFC 9440) of trusted proxies, at which TLS ends. Default:
	// that of the TLS connection counts, and no header.
	ClientCertHeader bool `json:"client_cert_header,omitempty"`
	// DPoP is how proofs of possession are checked. Default: those of tokens
	// that are bound to a key, and of no others.
	DPoP *DPoP `json:"dpop,omitempty"`
	// Resource describes the route to clients (RFC 9728). The document is
	// served by `jwt_metadata`; every challenge names it.
	Resource *Resource `json:"resource,omitempty"`

	issuers  []*Issuer
	guesses  []atomic.Uint32 // by hash of a token, who had it last; nil for one issuer
	asked    *Issuer         // about opaque tokens; nil where nobody is
	sources  []Source
	guarded  guarded
	maxBytes int
	dpop     *prover
	said     map[string]string // by code of the answer, the challenges that are always the same
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.jwt",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the issuers.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := exchange.Muster(ctx); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	if err := reject.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	app, err := ctx.App("sallyport_issuers")
	if err != nil {
		return err
	}
	if h.issuers, err = app.(*Issuers).named(h.Issuers); err != nil {
		return err
	}
	if len(h.issuers) > 1 {
		h.guesses = make([]atomic.Uint32, guesses)
	}
	if h.dpop, err = h.DPoP.provision(ctx); err != nil {
		return fmt.Errorf("jwt: dpop: %w", err)
	}
	for _, i := range h.issuers {
		h.maxBytes = max(h.maxBytes, i.maxBytes)
		if i.Introspect == nil {
			continue
		}
		if h.asked != nil {
			return fmt.Errorf("jwt: issuers %s and %s both introspect; an opaque token does not tell which of them to ask", h.asked.name, i.name)
		}
		h.asked = i
	}
	h.rehearse()
	for _, f := range h.Forward {
		h.guarded = append(h.guarded, f.Header)
	}
	return nil
}

// check refuses what no route can mean, and completes what is left out.
func (h *Handler) check() error {
	if len(h.Issuers) == 0 {
		return fmt.Errorf("jwt names no issuer")
	}
	for n := range h.Sources {
		if err := h.Sources[n].check(); err != nil {
			return fmt.Errorf("jwt: %w", err)
		}
	}
	h.sources = h.Sources
	if len(h.sources) == 0 {
		h.sources = []Source{{From: "header", Name: "Authorization"}}
	}
	for n := range h.Require {
		if err := h.Require[n].check(); err != nil {
			return fmt.Errorf("jwt: require: %w", err)
		}
	}
	seen := make(map[string]bool)
	for n := range h.Forward {
		f := &h.Forward[n]
		if err := f.check(); err != nil {
			return fmt.Errorf("jwt: forward %s: %w", f.Claim, err)
		}
		if seen[f.Header] {
			return fmt.Errorf("jwt: forward: header %s is set twice", f.Header)
		}
		seen[f.Header] = true
	}
	if h.DPoP != nil {
		if err := h.DPoP.check(); err != nil {
			return fmt.Errorf("jwt: dpop: %w", err)
		}
	}
	if h.Resource != nil {
		if err := h.Resource.check(); err != nil {
			return fmt.Errorf("jwt: resource: %w", err)
		}
	}
	switch h.Token {
	case "", "keep", "strip":
	default:
		return fmt.Errorf("jwt: token '%s' is none of keep, strip", h.Token)
	}
	switch h.Streams {
	case "", "keep", "expire":
	default:
		return fmt.Errorf("jwt: streams '%s' is none of keep, expire", h.Streams)
	}
	if err := h.checkOrigins(); err != nil {
		return fmt.Errorf("jwt: %w", err)
	}
	if !printableASCII(h.Realm) || !quotable(h.Realm) {
		return fmt.Errorf("jwt: realm holds a character that does not fit into a challenge")
	}
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	// First of all, and on every way through: what we tell the upstream, only
	// we may tell it.
	h.guarded.strip(r)
	if h.ClientCertHeader && !trusted(r) {
		certificateHeaders.strip(r)
	}
	if h.Preflight && isPreflight(r) {
		return next.ServeHTTP(w, r)
	}
	c, err := h.extract(r)
	if err != nil {
		return h.refuse(w, r, failure{err: err, dpop: c.dpop})
	}
	if c.raw == "" {
		return h.anonymous(w, r, next)
	}
	if c.source.From == "cookie" && h.forged(r) {
		return h.refuse(w, r, failure{err: errOrigin})
	}
	now := time.Now()
	f, i, err := h.verify(r.Context(), c.raw, now)
	if err == nil {
		err = h.proveHolder(r, &c, f, now)
	}
	if err != nil {
		return h.refuse(w, r, failure{err: err, issuer: i, dpop: c.dpop})
	}
	// Also a caller who may not pass is known: the record of a 403 names him.
	identify(r, f)
	if q := h.unmet(f); q != nil {
		return h.refuse(w, r, failure{err: errUnmet, issuer: i, unmet: q, dpop: c.dpop})
	}
	if c.source.From == "websocket" {
		w = &handshake{caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, protocols(r)}
	}
	if h.strips(&c) {
		c.remove(r)
	}
	if err := h.forward(r, f.token); err != nil {
		return h.refuse(w, r, failure{err: err, issuer: i, dpop: c.dpop})
	}
	if h.dpop.nonces != nil && c.dpop {
		w.Header().Set("DPoP-Nonce", h.dpop.nonces.make(now))
	}
	i.count.accepted.Inc()
	if exchange.Wanted(exchange.AuthGranted) {
		exchange.Report(exchange.Fact{Kind: exchange.AuthGranted, Time: now, Code: "token-accepted", Request: r})
	}
	if h.Streams == "expire" {
		return h.untilExpiry(w, r, f, c.dpop, next)
	}
	return next.ServeHTTP(w, r)
}

func (h *Handler) strips(c *credential) bool {
	if h.Token == "" {
		return c.source.From != "header"
	}
	return h.Token == "strip"
}

func (h *Handler) anonymous(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !h.Optional {
		return h.refuse(w, r, failure{err: errMissing})
	}
	anonymous.Inc()
	return next.ServeHTTP(w, r)
}

// isPreflight says whether a browser asks for leave (Fetch standard), which it
// does without credentials. Other OPTIONS requests are like any request.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" &&
		r.Header.Get("Access-Control-Request-Method") != ""
}

// identify writes the caller on the card and answers for the placeholders.
func identify(r *http.Request, f *facts) {
	x := exchange.Of(r)
	x.Identity = exchange.Identity{
		Subject: f.token.Subject, Issuer: f.issuer.name, TokenID: f.token.ID, Claims: f.token,
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(caller{x}.placeholder)
	}
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
