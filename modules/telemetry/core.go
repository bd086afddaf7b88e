package telemetry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(Core)) }

// Core is a log core that exports the gateway's own log, as far as logs are
// exported at all. Entries of access logs are left out: `telemetry` exports
// them, in a form of their own. Requests are told without their headers and
// without the values of their query.
//
//	log default {
//		core telemetry
//	}
type Core struct {
	// Level is the least level that is exported. Default: INFO.
	Level string `json:"level,omitempty"`
	// AlsoRaw is another core that hears of all entries: a log takes one.
	AlsoRaw json.RawMessage `json:"also,omitempty" caddy:"namespace=caddy.logging.cores inline_key=module"`

	least  zapcore.Level
	fields []zapcore.Field
	also   zapcore.Core
}

// CaddyModule returns the Caddy module information.
func (*Core) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.cores.telemetry", New: func() caddy.Module { return new(Core) }}
}

// Provision reads the level.
func (c *Core) Provision(ctx caddy.Context) (err error) {
	c.also = zapcore.NewNopCore()
	if c.AlsoRaw != nil {
		mod, err := ctx.LoadModule(c, "AlsoRaw")
		if err != nil {
			return fmt.Errorf("load log core: %w", err)
		}
		c.also = mod.(zapcore.Core)
	}
	c.least, err = levelOf(c.Level)
	return err
}

func levelOf(text string) (zapcore.Level, error) {
	if text == "" {
		return zapcore.InfoLevel, nil
	}
	l, err := zapcore.ParseLevel(text)
	if err != nil {
		return l, fmt.Errorf("level is DEBUG, INFO, WARN or ERROR, not '%s'", text)
	}
	return l, nil
}

// UnmarshalCaddyfile sets up the core. Syntax:
//
//	core telemetry {
//		level DEBUG|INFO|WARN|ERROR
//		also  <core> [{ … }]
//	}
func (c *Core) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("core telemetry takes no argument, got '%s'", d.Val())
	}
	return syntax.Block(d, "core telemetry",
		syntax.Option{Name: "level", Read: c.readLevel},
		syntax.Option{Name: "also", Read: c.readAlso},
	)
}

func (c *Core) readLevel(d *caddyfile.Dispenser) error {
	if err := syntax.Text(&c.Level)(d); err != nil {
		return err
	}
	if _, err := levelOf(c.Level); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *Core) readAlso(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("option 'also' takes a core")
	}
	name := d.Val()
	mod, err := caddyfile.UnmarshalModule(d, "caddy.logging.cores."+name)
	if err != nil {
		return err
	}
	c.AlsoRaw = caddyconfig.JSONModuleObject(mod, "module", name, nil)
	return nil
}

// Enabled says which levels are exported.
func (c *Core) Enabled(l zapcore.Level) bool { return c.least.Enabled(l) || c.also.Enabled(l) }

// With is called with the fields that a logger has for all its entries.
func (c *Core) With(fields []zapcore.Field) zapcore.Core {
	return &Core{least: c.least, fields: append(slices.Clip(c.fields), fields...), also: c.also.With(fields)}
}

// Check takes the entries that are to be exported. None is about the export
// itself: one entry would bring forth the next.
func (c *Core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	ce = c.also.Check(e, ce)
	if !c.least.Enabled(e.Level) || strings.HasPrefix(e.LoggerName, "http.log.access") || e.LoggerName == "sallyport_telemetry" {
		return ce
	}
	if now := exporting(); now == nil || now.diary == nil {
		return ce
	}
	return ce.AddCore(e, c)
}

// strict is for what leaves the machine: no header, no value of a query.
var strict = &secrets{all: true}

// Write exports an entry.
func (c *Core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	now := exporting()
	if now == nil || now.diary == nil {
		return nil
	}
	known := zapcore.NewMapObjectEncoder()
	to := &scrubber{known, strict}
	for _, f := range c.fields {
		f.AddTo(to)
	}
	for _, f := range fields {
		f.AddTo(to)
	}
	w := now.diary.record()
	record := noted{at: e.Time, level: e.Level, body: withoutTokens(e.Message)}
	traceID, _ := known.Fields["trace_id"].(string)
	spanID, _ := known.Fields["span_id"].(string)
	record.contextOf(traceID, spanID)
	w.text("logger", e.LoggerName)
	for key, value := range known.Fields {
		w.any(key, value)
	}
	w.text("exception.stacktrace", e.Stack)
	now.diary.deliver(&w, &record)
	return nil
}

// any writes a field of a log entry, nested ones as JSON.
func (w *wire) any(key string, value any) {
	switch v := value.(type) {
	case string:
		w.text(key, v)
	case bool:
		w.truth(key, v)
	case int:
		w.number(key, v)
	case int64:
		w.number(key, int(v))
	case float64:
		w.real(key, v)
	case time.Duration:
		w.real(key, v.Seconds())
	case time.Time:
		w.text(key, v.UTC().Format(time.RFC3339Nano))
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = fmt.Append(nil, v)
		}
		w.text(key, string(text))
	}
}

// Sync has nothing of its own to sync: the export has its own pace.
func (c *Core) Sync() error { return c.also.Sync() }

var (
	_ zapcore.Core          = (*Core)(nil)
	_ caddy.Provisioner     = (*Core)(nil)
	_ caddyfile.Unmarshaler = (*Core)(nil)
)
