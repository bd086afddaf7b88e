package jwtauth

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// failure is why a request goes no further.
type failure struct {
	err    error
	issuer *Issuer // nil where the token names none of the route's
	unmet  *Requirement
	dpop   bool
}

var (
	errMissing = errors.New("request carries no token")
	errUnmet   = errors.New("token does not say what the route requires")
)

// retryAfter is how long a caller waits where no keys are to be had: two
// attempts of ours to get them.
const retryAfter = 5 * time.Second

// answer is what the client hears of a failure. It is told no more than it
// needs to act: what exactly is wrong with a token stays in log and metrics.
type answer struct {
	status            int
	code, title, hint string
	// oauth is the error code of RFC 6750, empty for none.
	oauth string
}

var (
	answerMissing     = answer{401, "token-missing", "An access token is required", "Send an access token in the Authorization header, after the word Bearer.", ""}
	answerRequest     = answer{400, "token-ambiguous", "The request does not carry one access token in one place", "Send exactly one access token, in one place.", "invalid_request"}
	answerInvalid     = answer{401, "token-invalid", "The access token is not valid here", "Get a new access token for this service.", "invalid_token"}
	answerExpired     = answer{401, "token-expired", "The access token has expired", "Get a new access token.", "invalid_token"}
	answerScope       = answer{403, "scope-insufficient", "The access token lacks a scope", "Get an access token with the scopes in 'required_scope'.", "insufficient_scope"}
	answerDenied      = answer{403, "access-denied", "The caller may not do this", "Ask for the role or attribute that this operation needs.", ""}
	answerOrigin      = answer{403, "origin-refused", "The request comes from a page of another origin", "Call this service from a page of its own origin, or send the token in the Authorization header.", ""}
	answerProof       = answer{401, "proof-invalid", "The proof of possession is not valid", "Send a new DPoP proof for this request, made with the key that the token is bound to.", "invalid_dpop_proof"}
	answerNonce       = answer{401, "proof-nonce", "The proof of possession needs a nonce", "Repeat the request with a proof that holds the value of DPoP-Nonce.", "use_dpop_nonce"}
	answerBinding     = answer{401, "token-bound", "The access token is bound to a key that the caller has not shown", "Present the token as it was bound: with a DPoP proof, or over TLS with the client certificate.", "invalid_token"}
	answerNoReplays   = answer{503, "proof-unverifiable", "Proofs of possession cannot be verified at the moment", "Try again later.", ""}
	answerUnavailable = answer{503, "keys-unavailable", "Access tokens cannot be verified at the moment", "Try again later.", ""}
)

func (f *failure) answer() answer {
	switch {
	case f.err == errMissing:
		return answerMissing
	case f.err == errAmbiguous, f.err == errScheme:
		return answerRequest
	case f.err == errUnmet && len(f.unmet.Scopes) > 0:
		return answerScope
	case f.err == errUnmet:
		return answerDenied
	case errors.Is(f.err, errUnavailable):
		return answerUnavailable
	case f.err == errProof, f.err == errReplay:
		return answerProof
	case f.err == errNonce:
		return answerNonce
	case f.err == errBinding, f.err == errUnbound, f.err == errCert:
		return answerBinding
	case errors.Is(f.err, errReplays):
		return answerNoReplays
	case f.err == errOrigin:
		return answerOrigin
	case f.err == token.ErrExpired, f.err == errLapsed:
		return answerExpired
	}
	return answerInvalid
}

// reason is the word for metrics and observers.
func (f *failure) reason() string {
	switch e, told := errors.AsType[*token.Error](f.err); {
	case told:
		return e.Reason
	case f.err == errMissing:
		return "missing"
	case f.err == errAmbiguous:
		return "ambiguous"
	case f.err == errScheme:
		return "scheme"
	case f.err == errForward:
		return "forward"
	case f.err == errOrigin:
		return "origin"
	case f.err == errLapsed:
		return "lapsed"
	case errors.Is(f.err, errUnavailable):
		return "no-keys"
	case errors.Is(f.err, errReplays):
		return "no-replays"
	case f.err != errUnmet:
		return "error"
	case len(f.unmet.Scopes) > 0:
		return "scope"
	case len(f.unmet.Roles) > 0:
		return "role"
	}
	return "claim"
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, f failure) error {
	a, reason, issuer := f.answer(), f.reason(), ""
	if f.issuer != nil {
		issuer = f.issuer.name
	}
	verifications.WithLabelValues(issuer, "refused", reason).Inc()
	ref := &refusal{
		Refusal: reject.Refusal{
			Room: "jwt", Kind: exchange.AuthRefused,
			Status: a.status, Code: a.code, Title: a.title, Hint: a.hint,
			Err: f.err,
		},
		attrs: [...]slog.Attr{slog.String("reason", reason), slog.String("issuer", issuer)},
	}
	ref.Attrs = ref.attrs[:]
	switch {
	case a.status == http.StatusServiceUnavailable:
		ref.RetryAfter = retryAfter
	case a.code != answerDenied.code && a.code != answerOrigin.code:
		ref.Challenges = h.challenges(ref.said[:0], &f, a)
	}
	if h.dpop.nonces != nil && (f.dpop || a.code == answerNonce.code) {
		w.Header().Set("DPoP-Nonce", h.dpop.nonces.make(time.Now()))
	}
	if a.code == answerScope.code {
		ref.Members = []reject.Member{{Name: "required_scope", Value: strings.Join(f.unmet.Scopes, " ")}}
	}
	if a.status == http.StatusBadRequest {
		ref.GRPCCode = reject.GRPCUnauthenticated
	}
	return reject.Refuse(w, r, &ref.Refusal)
}

// refusal is a refusal with what it points to: one allocation, for there may
// be a flood of them.
type refusal struct {
	reject.Refusal
	attrs [2]slog.Attr
	said  [2]string
}

// challenges are the values of WWW-Authenticate (RFC 6750 section 3, RFC 9449
// section 7.1). Without credentials there is no error to name, and with some
// the scheme names it in which they were sent.
func (h *Handler) challenges(list []string, f *failure, a answer) []string {
	required := h.DPoP != nil && h.DPoP.Required
	if !required && !f.dpop {
		said, known := h.said[a.code]
		if !known {
			said = h.challenge("Bearer", f, a)
		}
		list = append(list, said)
	}
	if h.DPoP != nil || f.dpop || a.code == answerBinding.code {
		list = append(list, h.challenge("DPoP", f, a))
	}
	return list
}

func (h *Handler) challenge(scheme string, f *failure, a answer) string {
	var b strings.Builder
	b.WriteString(scheme)
	parameter(&b, "realm", orText(h.Realm, "api"))
	if a.oauth != "" && (f.dpop || scheme == "Bearer" || h.DPoP != nil && h.DPoP.Required) {
		parameter(&b, "error", a.oauth)
		parameter(&b, "error_description", a.title)
	}
	switch {
	case a.code == answerScope.code:
		parameter(&b, "scope", strings.Join(f.unmet.Scopes, " "))
	case a.code == answerMissing.code && h.Resource != nil && len(h.Resource.Scopes) > 0:
		parameter(&b, "scope", strings.Join(h.Resource.Scopes, " "))
	}
	if scheme == "DPoP" {
		parameter(&b, "algs", h.dpop.names)
	}
	if h.Resource != nil {
		parameter(&b, "resource_metadata", h.Resource.metadataURL())
	}
	return b.String()
}

// rehearse makes the challenges that are the same for every caller of the route.
func (h *Handler) rehearse() {
	h.said = make(map[string]string)
	for _, a := range []answer{answerMissing, answerRequest, answerInvalid, answerExpired, answerProof, answerNonce, answerBinding} {
		h.said[a.code] = h.challenge("Bearer", new(failure), a)
	}
}

func parameter(b *strings.Builder, name, value string) {
	if b.String()[b.Len()-1] == '"' {
		b.WriteByte(',')
	}
	b.WriteString(" " + name + `="` + value + `"`)
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// quotable says whether s can stand in a quoted string as it is.
func quotable(s string) bool { return !strings.ContainsAny(s, "\"\\") }
