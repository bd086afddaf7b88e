package telemetry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(Redact)) }

// Redact is a log format that writes what another one does, without
// credentials: those in headers, in the query of a URL, and whatever has the
// shape of a signed token, in the path or the `Referer` too.
type Redact struct {
	// WrappedRaw is the format. Default: `json`.
	WrappedRaw json.RawMessage `json:"wrap,omitempty" caddy:"namespace=caddy.logging.encoders inline_key=format"`
	// Headers are further headers whose values are not written.
	Headers []string `json:"headers,omitempty"`
	// Query are further parameters whose values are not written.
	Query []string `json:"query,omitempty"`

	zapcore.Encoder `json:"-"`
	secrets         *secrets
}

// CaddyModule returns the Caddy module information.
func (*Redact) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.encoders.redact", New: func() caddy.Module { return new(Redact) }}
}

// Provision loads the format.
func (e *Redact) Provision(ctx caddy.Context) error {
	e.secrets = newSecrets(e.Headers, e.Query)
	if e.WrappedRaw == nil {
		plain := new(logging.JSONEncoder)
		e.Encoder = plain
		return plain.Provision(ctx)
	}
	mod, err := ctx.LoadModule(e, "WrappedRaw")
	if err != nil {
		return fmt.Errorf("load log format: %w", err)
	}
	e.Encoder = mod.(zapcore.Encoder)
	return nil
}

// UnmarshalCaddyfile sets up the format. Syntax:
//
//	format redact {
//		wrap   <format> [{ … }]
//		header <name...>
//		query  <name...>
//	}
func (e *Redact) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("format redact takes no argument, got '%s'", d.Val())
	}
	return syntax.Block(d, "format redact",
		syntax.Option{Name: "wrap", Read: e.readWrap},
		syntax.Option{Name: "header", Read: syntax.Texts(&e.Headers)},
		syntax.Option{Name: "query", Read: syntax.Texts(&e.Query)},
	)
}

func (e *Redact) readWrap(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("option 'wrap' takes a format")
	}
	name := d.Val()
	mod, err := caddyfile.UnmarshalModule(d, "caddy.logging.encoders."+name)
	if err != nil {
		return err
	}
	e.WrappedRaw = caddyconfig.JSONModuleObject(mod, "format", name, nil)
	return nil
}

// Clone is called for every logger with fields of its own.
func (e *Redact) Clone() zapcore.Encoder {
	return &Redact{Encoder: e.Encoder.Clone(), secrets: e.secrets}
}

// EncodeEntry writes one entry.
func (e *Redact) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	own := e.Encoder.Clone()
	for _, f := range fields {
		f.AddTo(&scrubber{own, e.secrets})
	}
	return own.EncodeEntry(entry, nil)
}

// AddObject adds a field that a logger has for all its entries.
func (e *Redact) AddObject(key string, m zapcore.ObjectMarshaler) error {
	return (&scrubber{e.Encoder, e.secrets}).AddObject(key, m)
}

// AddString is the same for a text.
func (e *Redact) AddString(key, value string) {
	(&scrubber{e.Encoder, e.secrets}).AddString(key, value)
}

// scrubber adds fields without the credentials in them.
type scrubber struct {
	zapcore.ObjectEncoder
	*secrets
}

func (s *scrubber) AddString(key, value string) {
	s.ObjectEncoder.AddString(key, s.text(key, value))
}

func (s *scrubber) AddObject(key string, m zapcore.ObjectMarshaler) error {
	if h, ok := m.(caddyhttp.LoggableHTTPHeader); ok {
		if s.all {
			return nil
		}
		h.Header = s.header(h.Header)
		return s.ObjectEncoder.AddObject(key, h)
	}
	return s.ObjectEncoder.AddObject(key, zapcore.ObjectMarshalerFunc(func(to zapcore.ObjectEncoder) error {
		return m.MarshalLogObject(&scrubber{to, s.secrets})
	}))
}

// secrets is where credentials are found.
type secrets struct {
	headers, query []string
	// all strikes every header and every value of a query.
	all bool
}

const redacted = "REDACTED"

func newSecrets(headers, query []string) *secrets {
	s := &secrets{
		headers: []string{
			"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Dpop", "Sec-Websocket-Protocol", "X-Api-Key",
		},
		query: []string{
			"access_token", "refresh_token", "id_token", "id_token_hint", "token", "jwt", "code", "assertion",
			"client_assertion", "client_secret", "password", "api_key", "apikey", "signature", "sig", "ticket",
		},
	}
	for _, h := range headers {
		s.headers = append(s.headers, http.CanonicalHeaderKey(h))
	}
	for _, q := range query {
		s.query = append(s.query, strings.ToLower(q))
	}
	return s
}

// signed has the shape of a JWT, whose header and claims begin with `{"`.
var signed = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)*`)

// header returns a copy of h without values that are secret.
func (s *secrets) header(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		out[name] = values
		switch {
		case slices.Contains(s.headers, name):
			out[name] = []string{redacted}
		case slices.ContainsFunc(values, suspicious):
			out[name] = slices.Clone(values)
			for i, v := range values {
				out[name][i] = s.url(v)
			}
		}
	}
	return out
}

// suspicious says that a text may hold a token or a query.
func suspicious(text string) bool {
	return strings.Contains(text, "eyJ") || strings.Contains(text, "?")
}

// text is what may be written of a field.
func (s *secrets) text(key, value string) string {
	if key == "uri" || key == "url" || strings.Contains(value, "eyJ") {
		return s.url(value)
	}
	return value
}

// url strikes the secrets of a URL, or of any text that may be one.
func (s *secrets) url(text string) string {
	if before, query, ok := strings.Cut(text, "?"); ok {
		pairs := strings.Split(query, "&")
		for i, pair := range pairs {
			name, value, _ := strings.Cut(pair, "=")
			if plain, err := url.QueryUnescape(name); err == nil {
				name = plain
			}
			plain, err := url.QueryUnescape(value)
			if s.all || slices.Contains(s.query, strings.ToLower(name)) || err == nil && signed.MatchString(plain) {
				pairs[i] = url.QueryEscape(name) + "=" + redacted
			}
		}
		text = before + "?" + strings.Join(pairs, "&")
	}
	return withoutTokens(text)
}

func withoutTokens(text string) string {
	if !strings.Contains(text, "eyJ") {
		return text
	}
	return signed.ReplaceAllString(text, redacted)
}

var (
	_ zapcore.Encoder       = (*Redact)(nil)
	_ caddy.Provisioner     = (*Redact)(nil)
	_ caddyfile.Unmarshaler = (*Redact)(nil)
)
