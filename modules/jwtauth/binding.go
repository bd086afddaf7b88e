package jwtauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// binding is what a token is bound to by `cnf` (RFC 7800): whoever presents it
// must show that they hold the key.
type binding struct {
	// jkt is the thumbprint of a DPoP key (RFC 9449), x5t that of a client
	// certificate (RFC 8705).
	jkt, x5t string
	// unknown says that it is bound in a way that nobody here can check.
	unknown bool
}

var (
	errBinding  = &token.Error{Reason: "binding"}
	errUnbound  = &token.Error{Reason: "unbound"}
	errCert     = &token.Error{Reason: "certificate"}
	confirmPath = token.Path{"cnf"}
)

// bindingOf reads `cnf`.
func bindingOf(t *token.Token) binding {
	v, ok := t.Lookup(confirmPath)
	if !ok {
		return binding{}
	}
	var b binding
	object := v.Members(func(name string, value token.Value) bool {
		text, isText := value.Text()
		switch {
		case name == "jkt" && isText && text != "":
			b.jkt = text
		case name == "x5t#S256" && isText && text != "":
			b.x5t = text
		default:
			b.unknown = true
		}
		return true
	})
	b.unknown = b.unknown || !object || b == (binding{})
	return b
}

// proveHolder says why the sender has not shown to hold what the token is
// bound to. A token that is bound and not proven is a stolen one.
func (h *Handler) proveHolder(r *http.Request, c *credential, f *facts, now time.Time) error {
	b := &f.binding
	switch {
	case b.unknown:
		return errBinding
	case b.x5t != "" && !h.holdsCertificate(r, b.x5t):
		return errCert
	case b.jkt != "":
		return h.dpop.prove(r, c, f, now)
	case c.dpop, h.DPoP != nil && h.DPoP.Required:
		return errUnbound
	}
	return nil
}

// holdsCertificate compares the certificate of the client: that of the TLS
// connection itself, or where TLS ends at a trusted proxy, and the operator
// says that it tells the certificate, the one that it tells.
func (h *Handler) holdsCertificate(r *http.Request, x5t string) bool {
	var der []byte
	switch {
	case h.ClientCertHeader && trusted(r):
		der = toldCertificate(r)
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		der = r.TLS.PeerCertificates[0].Raw
	}
	sum := sha256.Sum256(der)
	return len(der) > 0 && subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(x5t)) == 1
}

// certificateHeaders are those in which a proxy tells the certificate of its
// client (RFC 9440). From anybody else they are what anybody may write.
var certificateHeaders = guarded{"Client-Cert", "Client-Cert-Chain"}

// toldCertificate reads Client-Cert: one byte sequence of a structured field.
func toldCertificate(r *http.Request) []byte {
	values := r.Header["Client-Cert"]
	if len(values) != 1 {
		return nil
	}
	text, begins := strings.CutPrefix(values[0], ":")
	text, ends := strings.CutSuffix(text, ":")
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || !begins || !ends {
		return nil
	}
	return der
}

// trusted says whether the request comes from a proxy that the site trusts.
func trusted(r *http.Request) bool {
	is, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return is
}
