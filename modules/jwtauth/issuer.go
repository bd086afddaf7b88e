package jwtauth

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/keyset"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// Issuer is one issuer of tokens: who it is, where its keys are, and what its
// tokens must look like. Exactly one of JWKS, Discover, JWKSFile, JWKSInline,
// Keys and Secret says where its keys are.
type Issuer struct {
	// Issuer is the exact value of `iss`. It may hold `{env.NAME}`. Required.
	Issuer string `json:"issuer,omitempty"`

	// JWKS is the URL of the key set. It may hold `{env.NAME}`.
	JWKS string `json:"jwks,omitempty"`
	// Discover finds the key set through the issuer's metadata (OpenID Connect
	// Discovery, RFC 8414).
	Discover bool `json:"discover,omitempty"`
	// JWKSFile is a file with the key set, read again when it changes.
	JWKSFile string `json:"jwks_file,omitempty"`
	// JWKSInline is the key set itself.
	JWKSInline string `json:"jwks_inline,omitempty"`
	// Keys are PEM files with public keys or certificates.
	Keys []KeyFile `json:"keys,omitempty"`
	// Secret is a reference to the secret of an HS algorithm.
	Secret string `json:"secret,omitempty"`

	// Insecure allows plain http beyond loopback, over which anybody on the
	// way can replace the keys.
	Insecure bool `json:"insecure,omitempty"`
	// Private allows key sets at addresses of private networks. Loopback is
	// always allowed where the URL itself names it.
	Private bool `json:"private,omitempty"`
	// CA is a file with the certificates to trust instead of the system's.
	CA string `json:"ca,omitempty"`
	// ClientCertificate and ClientKey are the files to authenticate with.
	ClientCertificate string `json:"client_certificate,omitempty"`
	ClientKey         string `json:"client_key,omitempty"`
	// Proxy is the proxy for fetches and questions: a URL, which may hold
	// `{env.NAME}`, or `environment` for what HTTPS_PROXY, HTTP_PROXY and
	// NO_PROXY say. Default: none.
	Proxy string `json:"proxy,omitempty"`
	// MaxStale is for how long the last good key set serves while no fetch
	// succeeds. Default: 24 hours.
	MaxStale caddy.Duration `json:"max_stale,omitempty"`
	// Require makes a start fail that has no keys after this long. Default:
	// zero, which starts without keys and answers 503 until they are there.
	Require caddy.Duration `json:"require,omitempty"`

	// Audience are the accepted values of `aud`. Required unless AnyAudience.
	Audience []string `json:"audience,omitempty"`
	// AnyAudience accepts tokens that were issued for somebody else.
	AnyAudience bool `json:"any_audience,omitempty"`
	// AllAudiences demands every value of Audience, not one of them.
	AllAudiences bool `json:"all_audiences,omitempty"`
	// Algorithms are the accepted ones. Default: RS256, PS256, ES256, ES384,
	// EdDSA, Ed25519; with Secret, HS256.
	Algorithms []string `json:"algorithms,omitempty"`
	// Types are the accepted values of `typ`, `none` standing for its absence.
	// Default: none, jwt, at+jwt.
	Types []string `json:"types,omitempty"`
	// RFC9068 demands a token of that profile: type at+jwt, and the claims
	// exp, aud, sub, client_id, iat, jti.
	RFC9068 bool `json:"rfc9068,omitempty"`
	// Leeway is how far the clocks may differ, up to 5 minutes. Default: 30 s.
	Leeway *caddy.Duration `json:"leeway,omitempty"`
	// OptionalExpiry accepts tokens without `exp`.
	OptionalExpiry bool `json:"optional_expiry,omitempty"`
	// MaxAge bounds the time since `iat`. Default: no bound.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
	// MaxLifetime bounds the time from `iat` to `exp`. Default: no bound.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`
	// MaxTokenBytes bounds a token's length. Default: 16384.
	MaxTokenBytes int `json:"max_token_bytes,omitempty"`
	// Scopes are the claims that hold scopes. Default: scope, scp.
	Scopes []string `json:"scopes,omitempty"`
	// Roles are the claims that hold roles. Default: roles.
	Roles []string `json:"roles,omitempty"`
	// CacheBytes bounds the memory for verified tokens. Default: 32 MiB; less
	// than zero remembers none. With Secret none is remembered: verifying
	// costs no more than looking up.
	CacheBytes int `json:"cache_bytes,omitempty"`
	// Revocation is where revoked tokens are learned from. Default: the admin
	// API only.
	Revocation *Revocation `json:"revocation,omitempty"`
	// Introspect asks the issuer about tokens. With it, keys may be left out.
	Introspect *Introspect `json:"introspect,omitempty"`

	name     string
	rules    token.Rules
	scopes   []token.Path
	roles    []token.Path
	source   *keyset.Source
	pooled   string // the key under which source is held, empty if it is not
	fixed    *ring  // of a secret
	ring     atomic.Pointer[ring]
	storage  caddy.Context
	count    counters
	maxStale time.Duration
	maxBytes int
	cache    *cache

	introspector  *introspector // nil where nobody is asked
	revoked       *revoked
	denying       bool                  // revoked is held in the pool
	deny          redis.UniversalClient // nil where revocations are not shared
	revocationErr atomic.Pointer[error] // of the latest look
}

// KeyFile is one PEM file.
type KeyFile struct {
	// File is the path.
	File string `json:"file"`
	// Algorithm is the only one the key serves. Default: by its kind.
	Algorithm string `json:"algorithm,omitempty"`
	// ID is the `kid` of its tokens. Default: none.
	ID string `json:"id,omitempty"`
}

const (
	defaultLeeway   = 30 * time.Second
	maxLeeway       = 5 * time.Minute
	defaultMaxStale = 24 * time.Hour
	defaultCache    = 32 << 20
)

// provision checks the configuration and fills in what is derived from it.
func (i *Issuer) provision(ctx caddy.Context, name string) error {
	i.name, i.storage = name, ctx
	if err := i.check(); err != nil {
		return err
	}
	var err error
	if i.rules.Issuer, err = secret.Resolve(i.Issuer); err != nil {
		return fmt.Errorf("option 'issuer': %w", err)
	}
	for _, a := range i.Audience {
		value, err := secret.Resolve(a)
		if err != nil {
			return fmt.Errorf("option 'audience': %w", err)
		}
		i.rules.Audiences = append(i.rules.Audiences, value)
	}
	if err := i.provisionRules(); err != nil {
		return err
	}
	i.maxStale = time.Duration(i.MaxStale)
	if i.maxStale == 0 {
		i.maxStale = defaultMaxStale
	}
	i.maxBytes = orInt(i.MaxTokenBytes, token.MaxSize)
	if i.CacheBytes >= 0 && i.Secret == "" && (i.Introspect == nil || !i.Introspect.Always) {
		i.cache = newCache(orInt(i.CacheBytes, defaultCache))
	}
	i.count = countersOf(name)
	if err := i.provisionRevocation(ctx); err != nil {
		return err
	}
	if err := i.provisionIntrospect(); err != nil {
		return err
	}
	return i.provisionKeys()
}

func (i *Issuer) provisionRules() (err error) {
	r := &i.rules
	r.AllAudiences = i.AllAudiences
	algorithms := i.Algorithms
	switch {
	case len(algorithms) > 0:
	case i.Secret != "":
		algorithms = []string{"HS256"}
	default:
		algorithms = token.DefaultAlgorithms
	}
	if r.Algorithms, err = token.ParseAlgorithms(algorithms); err != nil {
		return err
	}
	r.Types = []string{"", "jwt", "at+jwt"}
	if len(i.Types) > 0 {
		r.Types = nil
		for _, t := range i.Types {
			if t == "none" {
				t = ""
			}
			r.Types = append(r.Types, token.MediaType(t))
		}
	}
	if i.RFC9068 {
		r.Types = []string{"at+jwt"}
		for _, claim := range []string{"exp", "aud", "sub", "client_id", "iat", "jti"} {
			r.Required = append(r.Required, token.Path{claim})
		}
	}
	r.Leeway = defaultLeeway
	if i.Leeway != nil {
		r.Leeway = time.Duration(*i.Leeway)
	}
	r.NoExpiry = i.OptionalExpiry
	r.MaxAge, r.MaxLifetime = time.Duration(i.MaxAge), time.Duration(i.MaxLifetime)
	if i.scopes, err = paths(i.Scopes, "scope", "scp"); err != nil {
		return err
	}
	i.roles, err = paths(i.Roles, "roles")
	return err
}

func paths(written []string, otherwise ...string) ([]token.Path, error) {
	if len(written) == 0 {
		written = otherwise
	}
	var list []token.Path
	for _, w := range written {
		p, err := token.ParsePath(w)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// check refuses what no issuer can be. It needs nothing but the written
// configuration, so it speaks at adapt time too, with file and line.
func (i *Issuer) check() error {
	if i.Issuer == "" {
		return errors.New("option 'issuer' is missing: the exact `iss` of its tokens")
	}
	var sources []string
	for word, given := range map[string]bool{
		"jwks <url>": i.JWKS != "", "jwks discover": i.Discover, "jwks file": i.JWKSFile != "",
		"jwks inline": i.JWKSInline != "", "key": len(i.Keys) > 0, "secret": i.Secret != "",
	} {
		if given {
			sources = append(sources, word)
		}
	}
	slices.Sort(sources)
	switch {
	case len(sources) == 0 && i.Introspect == nil:
		return errors.New("it has no keys; give it one of: jwks <url>, jwks discover, jwks file <path>, jwks inline <json>, key <file>, secret <reference>, or introspect <url>")
	case len(sources) > 1:
		return fmt.Errorf("it has keys from several places (%s); give it one", strings.Join(sources, ", "))
	case len(i.Audience) == 0 && !i.AnyAudience:
		return errors.New("option 'audience' is missing: without it, tokens issued for another service are accepted; if that is meant, write 'audience any'")
	case len(i.Audience) > 0 && i.AnyAudience:
		return errors.New("option 'audience' is both a list and 'any'")
	case (i.ClientCertificate == "") != (i.ClientKey == ""):
		return errors.New("option 'client_certificate' takes two files, certificate and key")
	case i.Proxy != "" && !strings.Contains(i.Proxy, "{"):
		if u, err := url.Parse(i.Proxy); err == nil && u.User != nil {
			return errors.New("option 'proxy' holds a password; write the URL as {env.NAME}, for a configuration can be read")
		}
		if _, err := i.proxy(); err != nil {
			return err
		}
	}
	switch {
	case i.Leeway != nil && time.Duration(*i.Leeway) > maxLeeway:
		return fmt.Errorf("option 'leeway' is at most %s: a longer one keeps expired tokens alive", maxLeeway)
	}
	if err := i.checkAlgorithms(); err != nil {
		return err
	}
	if i.Introspect != nil {
		if err := i.Introspect.check(i.Insecure); err != nil {
			return err
		}
	}
	return i.checkURLs()
}

func (i *Issuer) checkAlgorithms() error {
	set, err := token.ParseAlgorithms(i.Algorithms)
	if err != nil {
		return fmt.Errorf("option 'algorithms': %w", err)
	}
	set.Each(func(a token.Algorithm) {
		if a.Symmetric() != (i.Secret != "") && err == nil {
			err = fmt.Errorf("option 'algorithms': %s works with a shared secret, and the others with published keys; an issuer has one or the other", a)
		}
	})
	return err
}

func orInt(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
