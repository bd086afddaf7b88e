package flags

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// visit is one request's evaluations: a flag is evaluated once, and once more if
// the caller turns out to be somebody else than it seemed.
type visit struct {
	app *App
	r   *http.Request
	x   *exchange.Exchange

	// who the caller was when what follows was found out.
	subject, issuer, token string
	key                    string
	keyed                  bool

	// fresh is the value of a cookie that is to be set; empty: none.
	fresh string

	seen []given
	room [3]given
}

// given is one evaluation.
type given struct {
	flag  string
	meter *meter
	answer
}

// visitOf returns the evaluations of r.
func (a *App) visitOf(r *http.Request) *visit {
	x := exchange.Of(r)
	if v, ok := x.Flags.(*visit); ok {
		return v
	}
	v := &visit{app: a, r: r, x: x}
	v.seen = v.room[:0]
	x.Flags = v
	return v
}

// Variant implements exchange.Flags, for placeholders.
func (v *visit) Variant(flag string) string { return v.give(flag).variant }

// give evaluates a flag unless that was done for this caller.
func (v *visit) give(flag string) answer {
	if who := &v.x.Identity; v.subject != who.Subject || v.token != who.TokenID || v.issuer != who.Issuer {
		v.forget()
	}
	for i := range v.seen {
		if v.seen[i].flag == flag {
			return v.seen[i].answer
		}
	}
	got := v.app.evaluate(v.r.Context(), flag, v)
	m := v.app.meters.of(flag)
	m.count(got.variant, got.reason)
	v.x.Note(m.note, got.variant)
	v.seen = append(v.seen, given{flag, m, got})
	return got
}

// forget drops what was found out for a caller who was not known yet: it must
// decide nothing for the one who is.
func (v *visit) forget() {
	for i := range v.seen {
		v.x.Note(v.seen[i].meter.note, "")
	}
	v.seen, v.key, v.keyed = v.seen[:0], "", false
	v.subject, v.issuer, v.token = v.x.Identity.Subject, v.x.Identity.Issuer, v.x.Identity.TokenID
}

// Key implements rules.Caller.
func (v *visit) Key() string {
	if !v.keyed {
		v.key, v.keyed = v.find(), true
	}
	return v.key
}

func (v *visit) find() string {
	c := v.app.Context
	if c.plain {
		if v.x.Identity.Subject != "" {
			return v.x.Identity.Subject
		}
	} else {
		for _, template := range c.Key {
			if key := v.fill(template); key != "" {
				return key
			}
		}
	}
	switch c.Anonymous {
	case byCookie:
		return v.cookie(c.Cookie)
	case byAddress:
		return hashed(v.address())
	}
	return ""
}

// Attribute implements rules.Caller.
func (v *visit) Attribute(name string) string {
	switch name {
	case attrSubject:
		return v.x.Identity.Subject
	case attrAddress:
		return v.address()
	}
	return v.fill(v.app.Context.Attributes[name])
}

// longestValue bounds what one caller can make us compare and hand on.
const longestValue = 1024

func (v *visit) fill(template string) string {
	repl, ok := v.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	value := repl.ReplaceAll(template, "")
	return value[:min(len(value), longestValue)]
}

func (v *visit) address() string {
	address, _ := caddyhttp.GetVar(v.r.Context(), caddyhttp.ClientIPVarKey).(string)
	return address
}

// describe is the caller as OpenFeature describes one, for sources of others.
// The address of a caller is not theirs to know, unless it is declared.
func (v *visit) describe() openfeature.FlattenedContext {
	c := openfeature.FlattenedContext{openfeature.TargetingKey: v.Key()}
	if s := v.x.Identity.Subject; s != "" {
		c[attrSubject] = s
	} else {
		c["anonymous"] = true
	}
	for name := range v.app.Context.Attributes {
		if value := v.Attribute(name); value != "" {
			c[name] = value
		}
	}
	return c
}

// hashed is an address as a key: of an IPv6 address the network counts, for
// hosts change the rest of it at will.
func hashed(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		p, _ := addr.Prefix(64) // 64 bits are in every IPv6 address
		addr = p.Addr()
	}
	sum := sha256.Sum256([]byte("sallyport flags\x00" + addr.String()))
	return "address:" + hex.EncodeToString(sum[:12])
}

// cookie is the key of a caller who has brought our cookie, or is to be given one.
func (v *visit) cookie(name string) string {
	if v.fresh == "" {
		if c, err := v.r.Cookie(name); err == nil && wellFormed(c.Value) {
			return "cookie:" + c.Value
		}
		v.fresh = rand.Text()
	}
	return "cookie:" + v.fresh
}

// wellFormed says whether a value could be one of ours.
func wellFormed(value string) bool {
	if len(value) != 26 {
		return false
	}
	for i := range len(value) {
		if c := value[i]; (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}
