package jwtauth

import (
	"context"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/keyset"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// facts are what was found out about one token and does not change with the
// request: that this issuer's key signed it. Whether it is still good, and good
// for this route, is asked each time.
type facts struct {
	token  *token.Token
	issuer *Issuer
	// gen is the generation of the key set that the signature was verified
	// with. Another one voids the facts: the key may be gone.
	gen uint64
	// binding is what the token is bound to.
	binding binding
}

// verify finds out who sent raw. On error the issuer is the one the token
// claims to be from, or nil if it is none of the route's.
func (h *Handler) verify(ctx context.Context, raw string, now time.Time) (*facts, *Issuer, error) {
	if f, i := h.known(raw, now); f != nil {
		return f, i, i.recheck(f, now)
	}
	if i := h.asked; i != nil && opaque(raw) {
		f, err := i.introspect(ctx, raw, false, now)
		return f, i, err
	}
	t, err := token.Parse(raw, h.maxBytes)
	if err != nil {
		return nil, nil, err
	}
	i, err := h.issuerOf(t, now)
	if err != nil {
		return nil, i, err
	}
	if !i.hasKeys() {
		f, err := i.introspect(ctx, raw, false, now)
		return f, i, err
	}
	f, err := i.verify(ctx, t, now)
	if err == nil && i.introspector != nil && i.Introspect.Always {
		_, err = i.introspect(ctx, raw, true, now) // the token itself says the rest
	}
	return f, i, err
}

// issuerOf returns the issuer whose rules the token meets, or else one whose
// name it bears, with the reason.
func (h *Handler) issuerOf(t *token.Token, now time.Time) (*Issuer, error) {
	var nearest *Issuer
	reason := error(token.ErrIssuer)
	for _, i := range h.issuers {
		if i.rules.Issuer != t.Issuer {
			continue
		}
		if len(t.Raw()) > i.maxBytes {
			nearest, reason = i, token.ErrSize
			continue
		}
		err := i.rules.Check(t, now)
		if err == nil {
			return i, nil
		}
		nearest, reason = i, err
	}
	return nearest, reason
}

// verify checks the signature of a token that meets the rules.
func (i *Issuer) verify(ctx context.Context, t *token.Token, now time.Time) (*facts, error) {
	r, snap, err := i.keysAt(now)
	if err != nil {
		return nil, err
	}
	_, err = r.keys.Verify(t)
	if err != nil && i.mayBeNewer(err, snap, now) {
		if r, err = i.newer(ctx, r, snap, err); r != nil {
			_, err = r.keys.Verify(t)
		}
	}
	if err != nil {
		return nil, err
	}
	t.Remember()
	f := &facts{token: t, issuer: i, gen: r.gen, binding: bindingOf(t)}
	i.remember(f, now)
	return f, i.recheck(f, now)
}

// settled is the age from which keys under a known id may have been replaced
// by others under the same id.
const settled = time.Minute

// mayBeNewer says whether other keys than those of snap could verify a token
// that these refuse with err.
func (i *Issuer) mayBeNewer(err error, snap *keyset.Snapshot, now time.Time) bool {
	if snap == nil {
		return false
	}
	return err == token.ErrUnknownKey || err == token.ErrSignature && now.Sub(snap.Fetched) > settled
}

// newer returns the ring of newer keys than those of snap, or nil and the
// reason there was before.
func (i *Issuer) newer(ctx context.Context, old *ring, snap *keyset.Snapshot, reason error) (*ring, error) {
	began, waits := time.Now(), !i.source.IsStatic() && i.source.Current().Gen == snap.Gen
	next, err := i.source.Newer(ctx, snap)
	if err != nil {
		i.count.suppressed.Inc()
	} else if waits {
		exchange.In(ctx).Step(exchange.Step{Name: "fetch keys", Began: began, Took: time.Since(began), Err: i.source.LastError()})
	}
	if next == nil {
		return nil, reason
	}
	r, err := i.ringOf(next)
	if err != nil || r.gen == old.gen {
		return nil, reason
	}
	return r, nil
}

// recheck is what a remembered token must still satisfy.
func (i *Issuer) recheck(f *facts, now time.Time) error {
	if i.revoked.hold(f.token, now) {
		return errRevoked
	}
	return i.rules.CheckTime(f.token, now)
}
