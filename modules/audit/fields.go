package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The fields of a request that an event can hold.
const (
	fieldMethod = 1 << iota
	fieldScheme
	fieldHost
	fieldPath
	fieldQuery
	fieldProtocol
	fieldUserAgent
	fieldStatus
	fieldBytes
	fieldDuration
	fieldClientIP
	fieldSubject
	fieldIssuer
	fieldTokenID
	fieldZones
	fieldUpstreams
	fieldFallback
)

var fieldNames = []string{
	"method", "scheme", "host", "path", "query", "protocol", "user_agent", "status", "bytes", "duration",
	"client_ip", "subject", "issuer", "token_id", "zones", "upstreams", "fallback",
}

// defaultFields leave out what a caller can fill with secrets or at length.
const defaultFields = 1<<17 - 1 - fieldQuery - fieldUserAgent

// Redact says which fields an event holds only as a keyed hash, or not at all.
type Redact struct {
	// Fields are the names of fields. Default: none.
	Fields []string `json:"fields,omitempty"`
	// Key is the secret of the hash, as `{env.X}` or `{file.X}`. With it a
	// field becomes `hmac:<key id>:<16 hex digits>`, which `sallyport audit
	// hash` can reproduce. Empty: the fields are left out.
	Key string `json:"key,omitempty"`
}

// lens is how much of a request the events show.
type lens struct {
	show, veil              uint32
	headers, params, claims []extra
	secret                  []byte
	keyID                   string
}

// extra is one header, query parameter or claim by name.
type extra struct {
	name string
	veil bool
}

// grind makes the lens for the fields and redactions that are configured. Of
// more, which the routes add to the rest, denied names are refused as well.
func grind(names []string, redact Redact, secret string, more []string) (lens, error) {
	l := lens{show: defaultFields}
	if len(names) > 0 {
		l.show = 0
	}
	for _, n := range slices.Concat(names, more) {
		if err := l.add(n); err != nil {
			return l, err
		}
	}
	for _, n := range redact.Fields {
		if err := l.cover(n); err != nil {
			return l, err
		}
	}
	if secret != "" {
		l.secret = []byte(secret)
		l.keyID = KeyID(l.secret)
	}
	return l, nil
}

func (l *lens) add(name string) error {
	what, arg, named := strings.Cut(name, ":")
	if !named {
		bit, ok := fieldBit(name)
		if !ok {
			return fmt.Errorf("unknown field '%s'; the fields are: %s, header:<name>, query:<name>, claim:<path>", name, strings.Join(fieldNames, ", "))
		}
		l.show |= bit
		return nil
	}
	list := l.listOf(what)
	if list == nil || arg == "" {
		return fmt.Errorf("unknown field '%s'; a named field is header:<name>, query:<name> or claim:<path>", name)
	}
	if denied(arg) {
		return fmt.Errorf("field '%s' would put a credential on record; this is never done", name)
	}
	if what == "header" {
		arg = http.CanonicalHeaderKey(arg)
	}
	*list = append(*list, extra{name: arg})
	return nil
}

func (l *lens) cover(name string) error {
	what, arg, named := strings.Cut(name, ":")
	if !named {
		bit, ok := fieldBit(name)
		if !ok {
			return fmt.Errorf("redact: unknown field '%s'; the fields are: %s, header:<name>, query:<name>, claim:<path>", name, strings.Join(fieldNames, ", "))
		}
		l.veil |= bit
		return nil
	}
	if what == "header" {
		arg = http.CanonicalHeaderKey(arg)
	}
	list := l.listOf(what)
	if list == nil {
		return fmt.Errorf("redact: unknown field '%s'; a named field is header:<name>, query:<name> or claim:<path>", name)
	}
	i := slices.IndexFunc(*list, func(e extra) bool { return e.name == arg })
	if i < 0 {
		return fmt.Errorf("redact: field '%s' is not among the fields", name)
	}
	(*list)[i].veil = true
	return nil
}

func (l *lens) listOf(what string) *[]extra {
	switch what {
	case "header":
		return &l.headers
	case "query":
		return &l.params
	case "claim":
		return &l.claims
	}
	return nil
}

func fieldBit(name string) (uint32, bool) {
	i := slices.Index(fieldNames, name)
	if i < 0 {
		return 0, false
	}
	return 1 << i, true
}

// see returns what the events show of value: itself, its hash, or nothing.
func (l *lens) see(field uint32, value string) string {
	if l.show&field == 0 || value == "" {
		return ""
	}
	return l.cloak(l.veil&field != 0, value)
}

func (l *lens) cloak(veil bool, value string) string {
	switch {
	case !veil:
		return value
	case l.secret == nil:
		return ""
	}
	return Hash(l.secret, l.keyID, value)
}

// Hash is the form in which a redacted value appears in events.
func Hash(secret []byte, keyID, value string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(value))
	var sum [sha256.Size]byte
	return "hmac:" + keyID + ":" + hex.EncodeToString(mac.Sum(sum[:0])[:8])
}

// KeyID names a redaction key without telling it.
func KeyID(secret []byte) string {
	sum := sha256.Sum256(append([]byte("sallyport audit key id:"), secret...))
	return hex.EncodeToString(sum[:4])
}

// deniedWords mark names whose values are credentials. The list always wins.
var deniedWords = []string{
	"authorization", "cookie", "token", "secret", "password", "passwd", "credential",
	"api-key", "api_key", "apikey", "signature", "session", "assertion", "jwt",
}

var deniedNames = []string{"key", "sig", "code", "auth", "pwd", "pass"}

func denied(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(deniedNames, name) ||
		slices.ContainsFunc(deniedWords, func(w string) bool { return strings.Contains(name, w) })
}

// cleanQuery returns a raw query in which the values of credentials are gone.
func cleanQuery(raw string) string {
	dirty := false
	for part := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(part, "=")
		if denied(unescapeName(name)) {
			dirty = true
			break
		}
	}
	if !dirty {
		return raw
	}
	var b strings.Builder
	for part := range strings.SplitSeq(raw, "&") {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		name, _, _ := strings.Cut(part, "=")
		if denied(unescapeName(name)) {
			b.WriteString(name)
			b.WriteString("=REDACTED")
		} else {
			b.WriteString(part)
		}
	}
	return b.String()
}
