package audit

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() { caddy.RegisterModule(new(Tap)) }

// The facts that only Caddy's own log tells.
const (
	// AdminSeen is a request to the admin endpoint that did not come through
	// the front; AdminFailed is one that the endpoint refused.
	AdminSeen   exchange.Kind = "admin.seen"
	AdminFailed exchange.Kind = "admin.failed"
	// ConfigRefused is a configuration that could not be loaded.
	ConfigRefused exchange.Kind = "config.refused"
)

// Tap is a log core that records what only Caddy's log knows of: requests to
// the admin endpoint which did not come through `admin_api`, and
// configurations that could not be loaded from a file. It belongs on the log
// named default, the only one that hears of them:
//
//	log default {
//		core audit
//	}
type Tap struct{}

// CaddyModule returns the Caddy module information.
func (*Tap) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.cores.audit", New: func() caddy.Module { return new(Tap) }}
}

// Enabled takes every level; Check looks at the line.
func (*Tap) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

// With is called with the fields of one request.
func (*Tap) With(fields []zapcore.Field) zapcore.Core { return &tapped{fields: fields} }

// Check takes a line that tells something.
func (*Tap) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return new(tapped).Check(e, ce)
}

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
	if _, telling := lines[line{e.LoggerName, e.Message}]; telling {
		return ce.AddCore(e, t)
	}
	return ce
}

// line is a message of Caddy's, by who says it.
type line struct{ logger, message string }

// meaning is what a line tells.
type meaning struct {
	kind exchange.Kind // empty: a load begins
	from string        // where the configuration comes from
}

// lines are those that tell something, as Caddy 2.11 writes them, and our own
// follower of --watch.
var lines = map[line]meaning{
	{"admin.api", "received request"}:                              {AdminSeen, ""},
	{"admin.api", "request error"}:                                 {AdminFailed, ""},
	{"watcher", "config file changed; reloading"}:                  {"", sourceWatch},
	{"watcher", "trying the config file again"}:                    {"", sourceWatch},
	{"watcher", "unable to load latest config"}:                    {ConfigRefused, sourceWatch},
	{"watcher", "applying latest config"}:                          {ConfigRefused, sourceWatch},
	{"", "reloading config from last-known source"}:                {"", sourceSignal},
	{"", "failed to reload config from file"}:                      {ConfigRefused, sourceSignal},
	{"config_loader", "applying dynamically-loaded config"}:        {"", sourceLoader},
	{"config_loader", "failed to run dynamically-loaded config"}:   {ConfigRefused, sourceLoader},
	{"config_loader", "failed loading dynamic config; will retry"}: {ConfigRefused, sourceLoader},
}

// Write reports what the line tells, unless it is of one of our own requests.
func (t *tapped) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := lines[line{e.LoggerName, e.Message}]
	all := append(t.fields[:len(t.fields):len(t.fields)], fields...)
	switch m.kind {
	case "":
		loading.Store(&m.from)
		return nil
	case ConfigRefused:
		loading.Store(nil)
	case AdminSeen:
		if isOurs(all) {
			return nil
		}
		if changes(all) {
			loading.Store(&endpoint)
		}
	case AdminFailed:
		if fronted.Load() > 0 {
			return nil // the front tells how its calls end
		}
	}
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	code := map[exchange.Kind]string{AdminSeen: "admin-endpoint", AdminFailed: "admin-endpoint", ConfigRefused: "load-failed"}[m.kind]
	exchange.Report(exchange.Fact{Kind: m.kind, Time: at, Code: code, Attrs: details(m, all)})
	return nil
}

// maxReason bounds an error message that an event holds.
const maxReason = 512

// details are what the fields of a line tell.
func details(m meaning, fields []zapcore.Field) (list []slog.Attr) {
	if m.from != "" {
		list = append(list, slog.String("source", m.from))
	}
	for _, f := range fields {
		switch {
		case f.Type == zapcore.StringType && f.Key != "remote_port":
			list = append(list, slog.String(f.Key, f.String))
		case f.Key == "status_code":
			list = append(list, slog.Int64(f.Key, f.Integer))
		case f.Type == zapcore.ErrorType:
			if err, ok := f.Interface.(error); ok {
				text := err.Error()
				list = append(list, slog.String(f.Key, text[:min(len(text), maxReason)]))
			}
		}
	}
	return list
}

// changes says whether the request is of a kind that may load something.
func changes(fields []zapcore.Field) bool {
	for _, f := range fields {
		if f.Key == "method" {
			return f.String != http.MethodGet && f.String != http.MethodHead && f.String != http.MethodOptions
		}
	}
	return false
}

// isOurs says whether the request was made by this process, and is on record.
func isOurs(fields []zapcore.Field) bool {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	if headers, ok := enc.Fields["headers"].(map[string]any); ok {
		if marks, ok := headers[CallHeader].([]any); ok && len(marks) == 1 {
			if mark, ok := marks[0].(string); ok && isOwnCall(mark) {
				return true
			}
		}
	}
	uri, _ := enc.Fields["uri"].(string)
	return strings.HasPrefix(uri, "/metrics")
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
