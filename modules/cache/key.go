package cache

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
)

// Key says what tells requests apart beside scheme, host, path and query. What
// it takes out of the key it also takes out of the request to the upstream:
// an input that could change the answer is never left out of the key.
type Key struct {
	// Query lists the parameters that count; all others are dropped.
	// Default: all count.
	Query []string `json:"query,omitempty"`

	// IgnoreQuery lists parameters that are dropped, such as `utm_source`.
	IgnoreQuery []string `json:"ignore_query,omitempty"`

	// SortQuery sorts the parameters by name. Those of one name stay in order.
	SortQuery bool `json:"sort_query,omitempty"`

	// Header lists request fields that count, whether or not the answer's
	// `Vary` names them.
	Header []string `json:"header,omitempty"`

	// Identity keeps the answers of each verified caller apart. Answers to
	// authenticated requests may then be kept without the origin's leave, for
	// that caller alone.
	Identity bool `json:"identity,omitempty"`

	// Add lists templates whose values count, such as `{sallyport.flag.beta}`.
	Add []string `json:"add,omitempty"`

	header []string
}

// longest is how many bytes a key may have. Longer ones are not worth their
// memory, and mostly an attack on it.
const longest = 8 << 10

func (k *Key) check() error {
	if k == nil {
		return nil
	}
	if len(k.Query) > 0 && len(k.IgnoreQuery) > 0 {
		return fmt.Errorf("cache: key has both query and ignore_query; name either those that count or those that do not")
	}
	for _, name := range k.Header {
		if name == "" || strings.ContainsAny(name, " \t:,") {
			return fmt.Errorf("cache: key header '%s' is no field name", name)
		}
	}
	return nil
}

func (k *Key) provision() { k.header = canonical(k.Header) }

// filters says whether the key leaves parameters of the query out.
func (k *Key) filters() bool { return len(k.Query) > 0 || len(k.IgnoreQuery) > 0 }

// forwarded are fields from which a server behind proxies may learn the host,
// scheme or path that its client asked for. Where one is there, it counts:
// what the upstream may build links from must not be left out of the key.
var forwarded = []string{
	"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Scheme", "X-Forwarded-Server",
	"X-Forwarded-Prefix", "X-Forwarded-Ssl", "X-Forwarded-Path", "X-Forwarded-Uri", "X-Host", "X-Original-Host",
	"X-Http-Host-Override", "X-Url-Scheme", "X-Script-Name", "Front-End-Https", "X-Proxy-Url",
}

// overrides are fields that make a server take the request for another one.
var overrides = []string{
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "X-Original-Uri",
}

// overridden says whether the request asks to be taken for another one.
func overridden(h http.Header) bool {
	for _, name := range overrides {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// name sets v.url and v.key. It says false where the request has no key.
func (v *visit) name() bool {
	k, r := v.h.Key, v.r
	var room [512]byte
	b := append(room[:0], "http"...)
	if r.TLS != nil {
		b = append(b, 's')
	}
	b = append(b, "://"...)
	if !plainHost(r.Host) {
		return false
	}
	b = append(b, r.Host...)
	b = k.appendTarget(b, v.asked())
	end := len(b)
	b = append(append(append(b, '\n'), v.h.Name...), '\n')
	b = v.appendExtras(b)
	if len(b) > longest {
		return false
	}
	v.key = string(b)
	v.url = v.key[:end]
	return true
}

// asked is the URL that the client asked for. Handlers in front may have
// rewritten it since, each route in its own way.
func (v *visit) asked() *url.URL {
	if o, ok := v.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		return o.URL
	}
	return v.r.URL
}

// plainHost refuses a host in any but its usual form. One with capitals names
// the same site, and an upstream may still answer it otherwise.
func plainHost(host string) bool {
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c >= 0x7f || 'A' <= c && c <= 'Z' || c == '/' || c == '?' || c == '@' {
			return false
		}
	}
	return host != ""
}

func (k *Key) appendTarget(b []byte, u *url.URL) []byte {
	b = append(b, u.EscapedPath()...)
	query := u.RawQuery
	if k.filters() {
		query = k.filter(query)
	}
	if k.SortQuery {
		query = sorted(query)
	}
	if query != "" || u.ForceQuery {
		b = append(append(b, '?'), query...)
	}
	return b
}

func (v *visit) appendExtras(b []byte) []byte {
	k, r := v.h.Key, v.r
	// A rewrite may depend on anything in the request, so its result counts.
	if asked := v.asked(); asked.Path != r.URL.Path || asked.RawPath != r.URL.RawPath || asked.RawQuery != r.URL.RawQuery {
		b = append(b, "to "...)
		b = k.appendTarget(b, r.URL)
		b = append(b, '\n')
	}
	if len(k.header) > 0 {
		b = freshness.AppendSelected(b, k.header, r.Header)
	}
	b = appendForwarded(b, r.Header)
	if id := &v.card.Identity; k.Identity && id.Subject != "" {
		b = appendWord(append(b, "for "...), id.Issuer)
		b = appendWord(b, id.Subject)
		b = append(b, '\n')
	}
	if len(k.Add) > 0 {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		for _, template := range k.Add {
			b = appendWord(append(b, "add "...), repl.ReplaceAll(template, ""))
			b = append(b, '\n')
		}
	}
	return b
}

// appendWord appends s so that no s can pose as two words or lines.
func appendWord(b []byte, s string) []byte {
	b = append(b, url.QueryEscape(s)...)
	return append(b, ' ')
}

func appendForwarded(b []byte, h http.Header) []byte {
	for _, name := range forwarded {
		for _, value := range h[name] {
			b = append(append(append(b, name...), '='), value...)
			b = append(b, '\n')
		}
	}
	for _, line := range h["Forwarded"] {
		for part := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ';' || c == ',' }) {
			part = strings.TrimSpace(part)
			name, _, _ := strings.Cut(part, "=")
			// Whom it is for differs from client to client and names no resource.
			if name = strings.TrimSpace(name); !strings.EqualFold(name, "for") && !strings.EqualFold(name, "by") {
				b = append(append(append(b, "Forwarded "...), part...), '\n')
			}
		}
	}
	return b
}

// filter drops the parameters that do not count. It parts the query at `&`
// only; a `;` belongs to a value, so that no parameter hides behind one.
func (k *Key) filter(query string) string {
	if query == "" {
		return ""
	}
	var b bytes.Buffer
	for pair := range strings.SplitSeq(query, "&") {
		if !k.counts(parameter(pair)) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pair)
	}
	return b.String()
}

func (k *Key) counts(name string) bool {
	if len(k.Query) > 0 {
		return slices.Contains(k.Query, name)
	}
	return !slices.Contains(k.IgnoreQuery, name)
}

// parameter is the name of a pair, as a server would read it.
func parameter(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if plain, err := url.QueryUnescape(name); err == nil {
		return plain
	}
	return name
}

func sorted(query string) string {
	if strings.IndexByte(query, '&') < 0 {
		return query
	}
	pairs := strings.Split(query, "&")
	slices.SortStableFunc(pairs, func(a, b string) int { return strings.Compare(parameter(a), parameter(b)) })
	return strings.Join(pairs, "&")
}
