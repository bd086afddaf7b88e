package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sync/singleflight"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/keyset"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// Introspect asks the issuer about tokens (RFC 7662): opaque ones, of which
// nobody else can tell anything, and on demand all.
type Introspect struct {
	// URL is the endpoint. It may hold `{env.NAME}`. Required.
	URL string `json:"url"`
	// ClientID and ClientSecret, a reference, are what the gateway
	// authenticates with (HTTP Basic). Required.
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
	// Cache is for how long an answer counts, at most until the token
	// expires. Default: 60 s; less than zero asks for each request.
	Cache caddy.Duration `json:"cache,omitempty"`
	// Always asks about signed tokens too, so that a revoked one is refused
	// as soon as Cache ends.
	Always bool `json:"always,omitempty"`
}

const (
	introspectTimeout = 5 * time.Second
	introspectCache   = time.Minute
	introspectMost    = 5 * time.Minute
	introspectBytes   = 4 << 20
	// introspectNever is for how long a token that is not active is believed
	// to stay so: one may be used a moment before all of the issuer knows it.
	introspectNever = 5 * time.Second
	// maxIntrospections bounds the requests that wait for the endpoint:
	// anybody can send a made-up token.
	maxIntrospections = 64
	maxAnswer         = 64 << 10
)

var errInactive = &token.Error{Reason: "inactive"}

// introspector is a provisioned Introspect.
type introspector struct {
	url, id, secret string
	client          *http.Client
	lasts           time.Duration
	known           *cache // nil where each request asks
	// inactive are tokens of which the issuer knows nothing good. Strangers
	// choose them, so they have a place of their own, and not for long.
	inactive *cache
	flights  singleflight.Group
	slots    chan struct{}
}

func (q *Introspect) check(insecure bool) error {
	switch {
	case q.ClientID == "" || q.ClientSecret == "":
		return errors.New("introspect: option 'client' is missing: the endpoint tells callers whom it knows only")
	case time.Duration(q.Cache) > introspectMost:
		return fmt.Errorf("introspect: option 'cache' is at most %s: a revoked token lives on for as long", introspectMost)
	case strings.Contains(q.URL, "{"):
		return nil
	}
	return checkEndpoint(q.URL, insecure)
}

func checkEndpoint(at string, insecure bool) error {
	u, err := url.Parse(at)
	if err == nil {
		err = keyset.CheckURL(u, insecure)
	}
	if err != nil {
		return fmt.Errorf("introspect: %w", err)
	}
	return nil
}

func (i *Issuer) provisionIntrospect() error {
	q := i.Introspect
	if q == nil {
		return nil
	}
	in := &introspector{id: q.ClientID, lasts: introspectCache, slots: make(chan struct{}, maxIntrospections)}
	var err error
	if in.url, err = secret.Resolve(q.URL); err != nil {
		return fmt.Errorf("introspect: %w", err)
	}
	if err := checkEndpoint(in.url, i.Insecure); err != nil {
		return err
	}
	if in.secret, err = secret.Resolve(q.ClientSecret); err != nil {
		return fmt.Errorf("introspect: option 'client': %w", err)
	}
	config, err := i.tls()
	if err != nil {
		return err
	}
	proxy, err := i.proxy()
	if err != nil {
		return err
	}
	endpoint := keyset.HTTP{URL: in.url, TLS: config, Private: i.Private, Proxy: proxy}
	transport := endpoint.Transport()
	transport.MaxIdleConnsPerHost, transport.IdleConnTimeout = maxIntrospections, 30*time.Second
	in.client = &http.Client{
		Timeout: introspectTimeout, Transport: transport,
		// It would send the token, and the gateway's own secret, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("endpoint redirects") },
	}
	if q.Cache != 0 {
		in.lasts = time.Duration(q.Cache)
	}
	if in.lasts > 0 {
		in.known, in.inactive = newCache(introspectBytes), newCache(introspectBytes)
	}
	i.introspector = in
	return nil
}

// hasKeys says whether the issuer's signed tokens can be verified here; one
// without keys is asked about all of them.
func (i *Issuer) hasKeys() bool { return i.source != nil || i.fixed != nil }

// introspect finds out about raw by asking. Of a token whose signature was
// verified here it only asks whether it is still active.
func (i *Issuer) introspect(ctx context.Context, raw string, verified bool, now time.Time) (*facts, error) {
	in := i.introspector
	if len(raw) > i.maxBytes {
		return nil, token.ErrSize
	}
	if in.known != nil {
		if f := in.known.get(raw, now); f != nil {
			i.count.cacheHit.Inc()
			return f, i.recheck(f, now)
		}
		if f := in.inactive.get(raw, now); f != nil {
			i.count.cacheHit.Inc()
			return nil, errInactive
		}
		i.count.cacheMiss.Inc()
	}
	// The flight is shared, so it may not end with the first caller's request.
	began := time.Now()
	answer, err, _ := in.flights.Do(raw, func() (any, error) {
		return in.ask(context.WithoutCancel(ctx), raw)
	})
	exchange.In(ctx).Step(exchange.Step{Name: "introspect", Began: began, Took: time.Since(began), Err: err})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	t := answer.(*token.Token)
	if active, ok := t.Lookup(token.Path{"active"}); !ok || active.Raw() != "true" {
		if in.inactive != nil {
			in.inactive.put(&facts{token: t}, now, min(in.lasts, introspectNever))
		}
		return nil, errInactive
	}
	if !verified {
		if err := i.rules.CheckVouched(t, now); err != nil {
			return nil, err
		}
	}
	f := &facts{token: t, issuer: i, binding: bindingOf(t)}
	if in.known != nil {
		in.known.put(f, now, in.lasts)
	}
	return f, i.recheck(f, now)
}

func (in *introspector) ask(ctx context.Context, raw string) (*token.Token, error) {
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	default:
		return nil, errors.New("too many introspections under way")
	}
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	ctx, cancel := context.WithTimeout(ctx, introspectTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	// RFC 6749 section 2.3.1: both are form-encoded first.
	req.SetBasicAuth(url.QueryEscape(in.id), url.QueryEscape(in.secret))
	resp, err := in.client.Do(req)
	if err != nil {
		return nil, errors.New("introspect: " + reasonOfURL(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("introspect: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("introspect: answer has status %d", resp.StatusCode)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("introspect: answer is larger than %d bytes", maxAnswer)
	}
	t, err := token.FromClaims(raw, string(body))
	if err != nil {
		return nil, fmt.Errorf("introspect: answer: %w", err)
	}
	return t, nil
}

// reasonOfURL is the cause without the URL, which every url.Error repeats.
func reasonOfURL(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}

// opaque says whether raw cannot be a signed token: it has not its three
// segments. It must still be one that RFC 6750 allows.
func opaque(raw string) bool {
	if n := strings.Count(raw, "."); n == 2 || n == 4 {
		return false
	}
	for n := range len(raw) {
		c := raw[n]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("-._~+/=", rune(c)) {
			return false
		}
	}
	return true
}
