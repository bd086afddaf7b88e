package mint

import (
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"time"
)

// Proof signs a DPoP proof (RFC 9449) for one request with token, as a client
// would that holds k. Members of more win over the proof's own; nil values take
// one out.
func (k *Key) Proof(method, url, token string, more map[string]any) (string, error) {
	jwk := k.JWK()
	for _, name := range []string{"kid", "alg", "use"} {
		delete(jwk, name)
	}
	sum := sha256.Sum256([]byte(token))
	claims := map[string]any{
		"jti": rand.Text(), "htm": method, "htu": url, "iat": time.Now().Unix(), "ath": encode(sum[:]),
	}
	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return k.Sign(map[string]any{"typ": "dpop+jwt", "jwk": jwk, "kid": nil}, claims)
}
