package jwtauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// Forward tells one claim to the upstream.
type Forward struct {
	// Claim is a claim's name, or a JSON Pointer such as /realm_access/roles.
	Claim string `json:"claim"`
	// Header is the name of the header.
	Header string `json:"header"`
	// As is the form of the value. `plain` (the default) takes text as it is,
	// which must be printable ASCII, and joins an array of such texts with
	// commas unless one of them holds a comma; `json` and `base64url` take any
	// value, the latter the JSON text encoded.
	As string `json:"as,omitempty"`

	path token.Path
}

// maxForwarded bounds one header's value.
const maxForwarded = 4 << 10

var errForward = errors.New("a claim to be forwarded does not fit into a header")

// forbiddenHeaders may not be set from a claim: the connection's own, and
// those that decide where the request goes and as whom.
var forbiddenHeaders = []string{
	"Authorization", "Connection", "Content-Length", "Content-Encoding", "Content-Type", "Cookie", "Expect", "Host",
	"Forwarded", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
}

func (f *Forward) check() (err error) {
	if f.path, err = token.ParsePath(f.Claim); err != nil {
		return err
	}
	name := http.CanonicalHeaderKey(f.Header)
	switch {
	case !httpguts.ValidHeaderFieldName(f.Header):
		return fmt.Errorf("'%s' is no header name", f.Header)
	case strings.ContainsAny(f.Header, "_."):
		return fmt.Errorf("header %s holds '_' or '.', which servers drop or confuse with '-'; write it with '-'", f.Header)
	case slices.Contains(forbiddenHeaders, name), strings.HasPrefix(name, "Sec-"):
		return fmt.Errorf("header %s may not be set from a claim: it belongs to the connection, or decides where a request goes and as whom", name)
	case !slices.Contains([]string{"", "plain", "json", "base64url"}, f.As):
		return fmt.Errorf("form '%s' is none of plain, json, base64url", f.As)
	}
	f.Header = name
	return nil
}

// forward sets the headers. An absent claim sets none, and the client's own
// copy is gone already.
func (h *Handler) forward(r *http.Request, t *token.Token) error {
	for n := range h.Forward {
		f := &h.Forward[n]
		v, ok := t.Lookup(f.path)
		if !ok || v.Raw() == "null" {
			continue
		}
		text, err := f.value(v)
		if err != nil {
			return err
		}
		r.Header[f.Header] = []string{text}
	}
	return nil
}

func (f *Forward) value(v token.Value) (text string, err error) {
	switch f.As {
	case "json":
		text, err = asciiJSON(v)
	case "base64url":
		text = base64.RawURLEncoding.EncodeToString([]byte(v.Raw()))
	default:
		text, err = plain(v)
	}
	if err == nil && len(text) > maxForwarded {
		err = errForward
	}
	return text, err
}

func plain(v token.Value) (string, error) {
	if text, ok := v.Scalar(); ok {
		if !printableASCII(text) {
			return "", errForward
		}
		return text, nil
	}
	var parts []string
	simple := v.Each(func(e token.Value) bool {
		text, ok := e.Scalar()
		if !ok || strings.Contains(text, ",") || !printableASCII(text) {
			parts = nil
			return false
		}
		parts = append(parts, text)
		return true
	})
	if simple && len(parts) > 0 {
		return strings.Join(parts, ","), nil
	}
	return asciiJSON(v)
}

// asciiJSON writes the value compactly and in ASCII, numbers as they are.
func asciiJSON(v token.Value) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v.Any()); err != nil {
		return "", errForward
	}
	var out strings.Builder
	for _, r := range strings.TrimRight(b.String(), "\n") {
		switch {
		case r >= ' ' && r <= '~':
			out.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String(), nil
}

func printableASCII(s string) bool {
	for n := range len(s) {
		if s[n] < ' ' || s[n] > '~' {
			return false
		}
	}
	return strings.TrimSpace(s) == s // a reader would trim it, and see another value
}
