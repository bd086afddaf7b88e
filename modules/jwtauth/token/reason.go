package token

// Error is why a token is refused. All of them are package-level values: a
// flood of bad tokens must not cost an allocation each.
type Error struct {
	// Reason is the stable word for metrics and logs.
	Reason string
	text   string
}

// Error says the reason in words, without any part of the token.
func (e *Error) Error() string {
	if e.text == "" {
		return e.Reason
	}
	return e.text
}

// The reasons, in the order in which a token meets the checks.
var (
	ErrSize         = &Error{"size", "token is longer than allowed"}
	ErrCharset      = &Error{"charset", "token holds a character that no compact token has"}
	ErrSegments     = &Error{"segments", "token has not three segments"}
	ErrEncrypted    = &Error{"encrypted", "token is encrypted (JWE)"}
	ErrJSONForm     = &Error{"json-form", "token is in JSON serialisation"}
	ErrBase64       = &Error{"base64", "a segment is not canonical base64url"}
	ErrHeader       = &Error{"header", "header is not one strict JSON object of known form"}
	ErrHeaderKey    = &Error{"header-key", "header brings its own key (jku, jwk, x5u)"}
	ErrCritical     = &Error{"crit", "header demands an extension (crit, b64, zip)"}
	ErrNested       = &Error{"nested", "token contains another token"}
	ErrType         = &Error{"typ", "token is of a type not accepted here"}
	ErrAlgorithm    = &Error{"alg", "algorithm is not accepted from this issuer"}
	ErrKeyID        = &Error{"kid", "key id is too long or not printable"}
	ErrJSON         = &Error{"json", "claims are not one strict JSON object"}
	ErrDuplicate    = &Error{"duplicate", "a JSON object names a member twice"}
	ErrLimits       = &Error{"limits", "JSON is too deep or has too many members"}
	ErrClaimType    = &Error{"claim-type", "a registered claim has the wrong type"}
	ErrIssuer       = &Error{"issuer", "issuer is not accepted here"}
	ErrAudience     = &Error{"audience", "token is for another audience"}
	ErrNoExpiry     = &Error{"no-exp", "token has no expiry"}
	ErrExpired      = &Error{"expired", "token has expired"}
	ErrNotYet       = &Error{"not-yet", "token is not valid yet"}
	ErrIssuedLater  = &Error{"iat", "token is issued in the future"}
	ErrTooOld       = &Error{"max-age", "token was issued too long ago"}
	ErrLifetime     = &Error{"max-lifetime", "token lives longer than allowed"}
	ErrMissingClaim = &Error{"claim-missing", "a claim that this profile demands is missing"}
	ErrUnknownKey   = &Error{"key", "no key of the issuer fits"}
	ErrSignature    = &Error{"signature", "signature does not verify"}
)
