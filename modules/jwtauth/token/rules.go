package token

import (
	"slices"
	"time"
)

// Rules are what one issuer's tokens must satisfy besides their signature.
type Rules struct {
	// Issuer is the only accepted `iss`, compared byte for byte.
	Issuer string
	// Audiences are the accepted values of `aud`, of which the token must name
	// one, or with AllAudiences each. Empty accepts any token, with or without.
	Audiences    []string
	AllAudiences bool
	// Algorithms are the accepted ones.
	Algorithms AlgorithmSet
	// Types are the accepted media types; the empty one stands for no `typ`.
	Types []string
	// Leeway is how far the clocks of issuer and gateway may differ.
	Leeway time.Duration
	// NoExpiry accepts a token without `exp`.
	NoExpiry bool
	// MaxAge bounds the time since `iat`, MaxLifetime the time from `iat` to
	// `exp`. Each makes `iat` required. Zero sets no bound.
	MaxAge, MaxLifetime time.Duration
	// Required are claims that must be there.
	Required []Path
}

// Check says why the token cannot be accepted at the instant now. It looks at
// unverified data, so it may only refuse.
func (r *Rules) Check(t *Token, now time.Time) error {
	switch {
	case t.Issuer != r.Issuer:
		return ErrIssuer
	case !r.Algorithms.Has(t.Header.Algorithm):
		return ErrAlgorithm
	case !slices.Contains(r.Types, t.Header.Type):
		return ErrType
	case !r.audience(t):
		return ErrAudience
	case t.expires == noTime && !r.NoExpiry:
		return ErrNoExpiry
	}
	for _, p := range r.Required {
		if _, ok := t.Lookup(p); !ok {
			return ErrMissingClaim
		}
	}
	return r.CheckTime(t, now)
}

// CheckTime is the part of Check whose outcome changes with the clock.
func (r *Rules) CheckTime(t *Token, now time.Time) error {
	at, leeway := now.UnixMilli(), r.Leeway.Milliseconds()
	if t.expires != noTime && at >= t.expires+leeway {
		return ErrExpired
	}
	if t.notBefore != noTime && at < t.notBefore-leeway {
		return ErrNotYet
	}
	if t.issued != noTime && at < t.issued-leeway {
		return ErrIssuedLater
	}
	if (r.MaxAge > 0 || r.MaxLifetime > 0) && t.issued == noTime {
		return ErrMissingClaim
	}
	if r.MaxAge > 0 && at >= t.issued+r.MaxAge.Milliseconds()+leeway {
		return ErrTooOld
	}
	if r.MaxLifetime > 0 && (t.expires == noTime || t.expires-t.issued > r.MaxLifetime.Milliseconds()) {
		return ErrLifetime
	}
	return nil
}

func (r *Rules) audience(t *Token) bool {
	if len(r.Audiences) == 0 {
		return true
	}
	for _, want := range r.Audiences {
		if t.HasAudience(want) != r.AllAudiences {
			return !r.AllAudiences
		}
	}
	return r.AllAudiences
}

// HasAudience says whether `aud` names want.
func (t *Token) HasAudience(want string) bool {
	if one, ok := t.audience.Text(); ok {
		return one == want
	}
	return t.audience.Holds(want)
}

// Holds says whether the value is want, or an array with want among its
// elements. Numbers compare as they are written.
func (v Value) Holds(want string) bool {
	if one, ok := v.Scalar(); ok {
		return one == want
	}
	found := false
	v.Each(func(e Value) bool {
		one, ok := e.Scalar()
		found = ok && one == want
		return !found
	})
	return found
}

// CheckVouched is Check for a token from FromClaims: the endpoint that was
// asked stands for issuer and signature, but not for the audience.
func (r *Rules) CheckVouched(t *Token, now time.Time) error {
	if t.Issuer != "" && t.Issuer != r.Issuer {
		return ErrIssuer
	}
	if !r.audience(t) {
		return ErrAudience
	}
	return r.CheckTime(t, now)
}
