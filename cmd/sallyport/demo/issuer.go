package demo

import (
	"fmt"
	"net/http"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// audience is who the demo's tokens are for.
const audience = "orders-api"

// Issuer is a key issuer for trying things out: it gives a token to anybody
// who asks.
//
//	GET /jwks.json                                        its public keys
//	GET /token?sub=<subject>[&scope=<scopes>][&ttl=<duration>]   a token
type Issuer struct {
	// URL is the issuer's name, the `iss` claim.
	URL string

	key *mint.Key
}

// NewIssuer returns an Issuer with a fresh key.
func NewIssuer(url string) (*Issuer, error) {
	key, err := mint.Generate("ES256", "demo-1")
	if err != nil {
		return nil, err
	}
	return &Issuer{URL: url, key: key}, nil
}

func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/jwks.json":
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(mint.JWKS(i.key)) // the caller left
	case "/token":
		i.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	ttl := 5 * time.Minute
	if text := q.Get("ttl"); text != "" {
		var err error
		if ttl, err = time.ParseDuration(text); err != nil {
			http.Error(w, fmt.Sprintf("ttl takes a duration such as 5m, got '%s'", text), http.StatusBadRequest)
			return
		}
	}
	if q.Get("sub") == "" {
		http.Error(w, "say who the token is for: /token?sub=alice&scope=orders:read", http.StatusBadRequest)
		return
	}
	token, err := i.key.Token(mint.Claims{
		Issuer: i.URL, Subject: q.Get("sub"), Audience: []string{audience}, Scope: q.Get("scope"), TTL: ttl,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprintln(w, token) // the caller left
}
