package jwtauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/keyset"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// DPoP is how proofs of possession (RFC 9449) are checked. Tokens that are
// bound to a key are checked without it, too, with its defaults.
type DPoP struct {
	// Required refuses tokens that are not bound to a key.
	Required bool `json:"required,omitempty"`
	// Window is how old a proof may be. Default: 60 s.
	Window caddy.Duration `json:"window,omitempty"`
	// Nonce demands that a proof holds a nonce of this gateway.
	Nonce bool `json:"nonce,omitempty"`
	// NonceSecret is a reference to the secret that several gateways make
	// their nonces with. Default: a random one of this process.
	NonceSecret string `json:"nonce_secret,omitempty"`
	// Replay is where used proofs are remembered, `memory` or `redis`.
	// Default: memory.
	Replay string `json:"replay,omitempty"`
	// Redis is the name of the Redis client. Default: default.
	Redis string `json:"redis,omitempty"`
	// Algorithms are the accepted ones. Default: ES256, ES384, EdDSA, Ed25519,
	// PS256, RS256.
	Algorithms []string `json:"algorithms,omitempty"`
}

var dpopAlgorithms = []string{"ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"}

const (
	proofWindow = time.Minute
	// proofAhead is how far the clock of a client may be ahead.
	proofAhead = 10 * time.Second
)

// prover is a provisioned DPoP.
type prover struct {
	window     time.Duration
	algorithms token.AlgorithmSet
	names      string // of the algorithms, for challenges
	used       replays
	nonces     *nonces // nil where none is demanded
}

var (
	errProof  = &token.Error{Reason: "proof"}
	errReplay = &token.Error{Reason: "replay"}
	errNonce  = &token.Error{Reason: "nonce"}
	// errReplays says that nobody can tell whether a proof was used before.
	errReplays = errors.New("used proofs cannot be looked up")
)

// provision makes the prover; a nil d has the defaults.
func (d *DPoP) provision(ctx caddy.Context) (*prover, error) {
	if d == nil {
		d = new(DPoP)
	}
	p := &prover{window: proofWindow, used: usedProofs}
	if d.Window != 0 {
		p.window = time.Duration(d.Window)
	}
	names := d.Algorithms
	if len(names) == 0 {
		names = dpopAlgorithms
	}
	p.names = strings.Join(names, " ")
	var err error
	if p.algorithms, err = token.ParseAlgorithms(names); err != nil {
		return nil, err
	}
	if d.Replay == "redis" {
		client, err := redispool.Use(ctx, d.Redis)
		if err != nil {
			return nil, fmt.Errorf("replay redis: %w", err)
		}
		p.used = inRedis{client.Redis()}
	}
	if d.Nonce {
		text, err := secret.Resolve(d.NonceSecret)
		if err != nil {
			return nil, fmt.Errorf("nonce: %w", err)
		}
		p.nonces = newNonces(text)
	}
	return p, nil
}

func (d *DPoP) check() error {
	if _, err := token.ParseAlgorithms(d.Algorithms); err != nil {
		return err
	}
	for _, a := range d.Algorithms {
		if token.ParseAlgorithm(a).Symmetric() {
			return fmt.Errorf("algorithm %s proves nothing: its key is no secret of the client alone", a)
		}
	}
	switch {
	case d.Replay != "" && d.Replay != "memory" && d.Replay != "redis":
		return fmt.Errorf("replay '%s' is none of memory, redis", d.Replay)
	case time.Duration(d.Window) > 10*time.Minute:
		return errors.New("window is at most 10m: each proof must be remembered for as long")
	}
	return nil
}

// prove checks the proof of a token that is bound to a DPoP key: RFC 9449
// section 4.3, what costs little first.
func (p *prover) prove(r *http.Request, c *credential, f *facts, now time.Time) error {
	sent := r.Header["Dpop"]
	if !c.dpop || len(sent) != 1 {
		return errBinding
	}
	proof, jwk, err := token.ParseProof(sent[0])
	if err != nil {
		return errProof
	}
	if !p.algorithms.Has(proof.Header.Algorithm) || !p.claims(r, c, proof, now) {
		return errProof
	}
	if p.nonces != nil && !p.nonces.valid(textOf(proof, "nonce"), now) {
		return errNonce
	}
	public, thumbprint, err := keyset.ParseKey([]byte(jwk))
	if err != nil || thumbprint != f.binding.jkt {
		return errProof
	}
	key, err := token.NewKey("", proof.Header.Algorithm, public.Public)
	if err != nil || key.Verify(proof) != nil {
		return errProof
	}
	fresh, err := p.used.first(r.Context(), sha256.Sum256([]byte(thumbprint+"."+proof.ID)), p.window+2*proofAhead)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errReplays, err)
	case !fresh:
		return errReplay
	}
	r.Header.Del("Dpop") // made for us alone: it names our URL
	return nil
}

// claims compares what the proof says with the request it came with.
func (p *prover) claims(r *http.Request, c *credential, proof *token.Token, now time.Time) bool {
	issued, ok := proof.Issued()
	if !ok || proof.ID == "" {
		return false
	}
	at := time.UnixMilli(issued)
	sum := sha256.Sum256([]byte(c.raw))
	return at.After(now.Add(-p.window)) && !at.After(now.Add(proofAhead)) &&
		textOf(proof, "htm") == r.Method &&
		textOf(proof, "ath") == base64.RawURLEncoding.EncodeToString(sum[:]) &&
		sameURI(textOf(proof, "htu"), r)
}

func textOf(t *token.Token, claim string) string {
	v, _ := t.Lookup(token.Path{claim})
	text, _ := v.Text()
	return text
}

// sameURI compares a proof's htu with the URL that the client asked for,
// without query and fragment.
func sameURI(htu string, r *http.Request) bool {
	u, err := url.Parse(htu)
	if err != nil || u.User != nil {
		return false
	}
	scheme, host, path := external(r)
	return strings.EqualFold(u.Scheme, scheme) &&
		withoutPort(u.Host, scheme) == withoutPort(host, scheme) &&
		orText(u.EscapedPath(), "/") == orText(path, "/")
}

// external is the URL as the client wrote it: before any rewriting here, and
// as a trusted proxy in front tells it.
func external(r *http.Request) (scheme, host, path string) {
	scheme, host, path = "http", r.Host, r.URL.EscapedPath()
	if r.TLS != nil {
		scheme = "https"
	}
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		path = original.URL.EscapedPath()
	}
	if trusted(r) {
		scheme = orText(firstOf(r.Header.Get("X-Forwarded-Proto")), scheme)
		host = orText(firstOf(r.Header.Get("X-Forwarded-Host")), host)
	}
	return scheme, host, path
}

func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

func withoutPort(host, scheme string) string {
	host = strings.ToLower(host)
	if strings.EqualFold(scheme, "https") {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}
