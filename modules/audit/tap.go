package audit

import (
	"log/slog"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() { caddy.RegisterModule(new(Tap)) }

// AdminSeen is the fact that somebody used the admin endpoint itself.
const AdminSeen exchange.Kind = "admin.seen"

// Tap is a log core that records requests to the admin endpoint which did not
// come through `admin_api`: from the socket, or where it is open to others. It
// belongs on the log named default, the only one that hears of them:
//
//	log default {
//		core audit
//	}
type Tap struct{}

// CaddyModule returns the Caddy module information.
func (*Tap) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.cores.audit", New: func() caddy.Module { return new(Tap) }}
}

// Enabled takes every level; Check looks at the name.
func (*Tap) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

// With is called with the fields of one request.
func (*Tap) With(fields []zapcore.Field) zapcore.Core { return &tapped{fields: fields} }

// Check takes no entry that has no fields.
func (*Tap) Check(_ zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry { return ce }

// Write has nothing to write.
func (*Tap) Write(zapcore.Entry, []zapcore.Field) error { return nil }

// Sync has nothing to sync.
func (*Tap) Sync() error { return nil }

// tapped is the tap of a logger that has fields.
type tapped struct {
	Tap
	fields []zapcore.Field
}

func (t *tapped) With(fields []zapcore.Field) zapcore.Core {
	return &tapped{fields: append(t.fields[:len(t.fields):len(t.fields)], fields...)}
}

func (t *tapped) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.LoggerName == "admin.api" && e.Message == "received request" {
		return ce.AddCore(e, t)
	}
	return ce
}

// Write reports the request, unless it is one of ours.
func (t *tapped) Write(e zapcore.Entry, _ []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	var list []slog.Attr
	for _, f := range t.fields {
		f.AddTo(enc)
		if f.Type == zapcore.StringType && f.Key != "remote_port" {
			list = append(list, slog.String(f.Key, f.String))
		}
	}
	if headers, ok := enc.Fields["headers"].(map[string]any); ok {
		if marks, ok := headers[CallHeader].([]any); ok && len(marks) == 1 {
			if mark, ok := marks[0].(string); ok && isOwnCall(mark) {
				return nil
			}
		}
	}
	if uri, _ := enc.Fields["uri"].(string); strings.HasPrefix(uri, "/metrics") {
		return nil
	}
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	exchange.Report(exchange.Fact{Kind: AdminSeen, Time: at, Code: "admin-endpoint", Attrs: list})
	return nil
}

// UnmarshalCaddyfile takes no options.
func (*Tap) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(0) {
		return d.Errf("core audit takes no options, got '%s'", d.Val())
	}
	return nil
}

var (
	_ zapcore.Core          = (*Tap)(nil)
	_ caddyfile.Unmarshaler = (*Tap)(nil)
)
