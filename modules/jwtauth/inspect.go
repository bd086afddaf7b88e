package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// jwtRoute is one jwt handler of a configuration and how it is reached.
type jwtRoute struct {
	handler *Handler
	matches []string
}

func (r *jwtRoute) where() string {
	return strings.Join(append([]string{"jwt " + strings.Join(r.handler.Issuers, " ")}, r.matches...), ", ")
}

// jwtRoutes finds the jwt handlers of an HTTP app.
func jwtRoutes(app json.RawMessage) []jwtRoute {
	var root any
	if json.Unmarshal(app, &root) != nil {
		return nil
	}
	return appendRoutes(nil, root, nil)
}

func appendRoutes(routes []jwtRoute, node any, matches []string) []jwtRoute {
	switch node := node.(type) {
	case []any:
		for _, n := range node {
			routes = appendRoutes(routes, n, matches)
		}
	case map[string]any:
		if node["handler"] == "jwt" {
			h := new(Handler)
			delete(node, "handler")
			if text, err := json.Marshal(node); err == nil && json.Unmarshal(text, h) == nil {
				return append(routes, jwtRoute{h, matches})
			}
		}
		if m, ok := node["match"]; ok {
			if text, err := json.Marshal(m); err == nil {
				matches = append(slices.Clip(matches), string(text))
			}
		}
		for _, name := range sortedKeys(node) {
			if name != "match" {
				routes = appendRoutes(routes, node[name], matches)
			}
		}
	}
	return routes
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// prepare is as much of Provision as explain needs.
func (h *Handler) prepare(app *Issuers) (err error) {
	if err := h.check(); err != nil {
		return err
	}
	h.issuers, err = app.named(h.Issuers)
	for _, i := range h.issuers {
		h.maxBytes = max(h.maxBytes, i.maxBytes)
		if i.Introspect != nil {
			h.asked = i
		}
	}
	return err
}

// explain says what the route would do with raw.
func (h *Handler) explain(raw string) (verdict string, passes bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	f, i, err := h.verify(ctx, raw, time.Now())
	fail := failure{err: err, issuer: i}
	if err == nil {
		if q := h.unmet(f); q != nil {
			fail.err, fail.unmet = errUnmet, q
		}
	}
	if fail.err != nil {
		a := fail.answer()
		return fmt.Sprintf("refused: %d %s (%s): %s", a.status, a.code, fail.reason(), h.detail(raw, &fail)), false
	}
	switch b := f.binding; {
	case b.unknown:
		return "refused: 401 token-bound (binding): it is bound in a way that cannot be checked here", false
	case b.jkt != "":
		return "passes as issuer " + i.name + ", with a DPoP proof of the key that it is bound to", true
	case b.x5t != "":
		return "passes as issuer " + i.name + ", over TLS with the client certificate that it is bound to", true
	case h.DPoP != nil && h.DPoP.Required:
		return "refused: 401 token-bound (unbound): the route takes tokens that are bound to a key only", false
	}
	return "passes as issuer " + i.name, true
}

// detail adds what would have been accepted.
func (h *Handler) detail(raw string, f *failure) string {
	text := f.err.Error()
	var e *token.Error
	if errors.As(f.err, &e) && f.issuer == nil && e == token.ErrIssuer {
		var accepted []string
		for _, i := range h.issuers {
			accepted = append(accepted, quote(i.rules.Issuer))
		}
		return text + "; accepted: " + strings.Join(accepted, ", ")
	}
	if f.err == errUnmet {
		return text + ": " + f.unmet.String()
	}
	if f.issuer == nil {
		return text
	}
	r := &f.issuer.rules
	switch f.err {
	case token.ErrAudience:
		text += "; accepted: " + strings.Join(r.Audiences, ", ")
	case token.ErrAlgorithm:
		text += "; accepted: " + r.Algorithms.String() + ", by a key that serves it"
	case token.ErrType:
		text += "; accepted: " + strings.ReplaceAll(strings.Join(r.Types, ", "), ", ,", ", none,")
	case token.ErrExpired, token.ErrNotYet, token.ErrIssuedLater:
		text += "; the clocks may differ by " + r.Leeway.String()
	case token.ErrUnknownKey:
		text += "; its keys: " + f.issuer.keyIDs()
	}
	return "issuer " + f.issuer.name + ": " + text
}

// String is the requirement as the Caddyfile writes it.
func (q *Requirement) String() string {
	words := []string{"require"}
	if q.Any {
		words = append(words, "any")
	}
	switch {
	case len(q.Scopes) > 0:
		words = append(append(words, "scope"), q.Scopes...)
	case len(q.Roles) > 0:
		words = append(append(words, "role"), q.Roles...)
	default:
		words = append(append(words, "claim", q.Claim), q.Values...)
	}
	return strings.Join(words, " ")
}

func (i *Issuer) keyIDs() string {
	if i.source == nil || i.source.Current() == nil {
		return "none"
	}
	var ids []string
	for _, k := range i.source.Current().Keys {
		ids = append(ids, quote(k.ID))
	}
	return strings.Join(ids, ", ")
}

func quote(s string) string {
	if s == "" {
		return ""
	}
	return strconv.QuoteToASCII(s)
}

func audienceText(t *token.Token) string {
	v, ok := t.Lookup(token.Path{"aud"})
	if !ok {
		return "none"
	}
	return strconv.QuoteToASCII(v.Raw())
}

func timesText(t *token.Token) string {
	var parts []string
	for _, name := range []string{"iat", "nbf", "exp"} {
		v, ok := t.Lookup(token.Path{name})
		if !ok {
			continue
		}
		if seconds, err := strconv.ParseFloat(v.Raw(), 64); err == nil {
			at := time.Unix(int64(seconds), 0)
			parts = append(parts, fmt.Sprintf("%s %s (%s)", name, at.UTC().Format(time.RFC3339), relative(time.Until(at))))
		}
	}
	return orText(strings.Join(parts, ", "), "none")
}

func relative(d time.Duration) string {
	if d < 0 {
		return (-d).Round(time.Second).String() + " ago"
	}
	return "in " + d.Round(time.Second).String()
}
