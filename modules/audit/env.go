package audit

import (
	"errors"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// The environment by which operators switch audit on without a config block.
const (
	envEnable = "ENABLE_AUDIT_EVENTS"
	envURL    = "AUDIT_EVENT_SINK_URL"
	envToken  = "AUDIT_EVENT_SINK_TOKEN"
)

// enabled reads ENABLE_AUDIT_EVENTS; set says whether it says anything.
func enabled() (on, set bool, err error) {
	switch v := os.Getenv(envEnable); v {
	case "":
		return false, false, nil
	case "true":
		return true, true, nil
	case "false":
		return false, true, nil
	default:
		return false, false, fmt.Errorf("audit: environment variable %s is true or false, got '%s'", envEnable, v)
	}
}

// decide settles whether audit is on. Off by environment wins over any block;
// on by environment needs a sink; unset follows the block.
func (a *App) decide() error {
	on, set, err := enabled()
	switch {
	case err != nil:
		return err
	case set && !on:
		if a.configured() {
			a.logger.Warn("audit is switched off by the environment; the audit block has no effect", zap.String("variable", envEnable))
		}
		return nil
	}
	if len(a.Sinks) == 0 && (on || a.configured()) && os.Getenv(envURL) != "" {
		a.Sinks = []*SinkConfig{sinkFromEnv()}
	}
	switch {
	case len(a.Sinks) > 0:
		a.on = true
	case on:
		return fmt.Errorf("audit: %s is true, but there is no sink: set %s, or write a sink into the audit block", envEnable, envURL)
	case a.configured():
		return errors.New("audit: no sink: write one into the audit block, or set " + envURL)
	}
	return nil
}

// configured says whether there is an audit block that says anything.
func (a *App) configured() bool {
	return len(a.Sinks) > 0 || a.Node != "" || a.Admin != "" || a.Spool != "" || a.MinFree != 0 || a.MaxBytes != 0 || a.DropOldest || len(a.Strict) > 0 || a.Granted || a.Checkpoint != (Checkpoint{}) || a.Coalesce != (Coalesce{}) ||
		len(a.Fields) > 0 || len(a.Redact.Fields) > 0 || a.ShutdownFlush != 0
}

func sinkFromEnv() *SinkConfig {
	s := &HTTPSink{Web: Web{URL: "{env." + envURL + "}"}}
	if os.Getenv(envToken) != "" || os.Getenv(envToken+"_FILE") != "" {
		s.Token = "{env." + envToken + "}"
	}
	return &SinkConfig{SinkRaw: caddyconfig.JSONModuleObject(s, "type", "http", nil)}
}

func init() {
	caddy.RegisterModule(new(Doorbell))
	exchange.Enlist(join)
}

// join loads the audit app where the environment asks for it.
func join(ctx caddy.Context) error {
	on, _, err := enabled()
	if err != nil || !on {
		return err
	}
	_, err = ctx.App("sallyport_audit")
	return err
}

// Doorbell is the one piece of every configuration that Caddy loads without
// being told, as long as the admin endpoint is on: it brings audit in where
// only the environment asks for it and no handler of ours is in use.
type Doorbell struct{}

// CaddyModule returns the Caddy module information.
func (*Doorbell) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sallyport_audit", New: func() caddy.Module { return new(Doorbell) }}
}

// Provision loads the audit app where the environment asks for it.
func (*Doorbell) Provision(ctx caddy.Context) error { return join(ctx) }

// Routes returns none.
func (*Doorbell) Routes() []caddy.AdminRoute { return nil }

var (
	_ caddy.AdminRouter = (*Doorbell)(nil)
	_ caddy.Provisioner = (*Doorbell)(nil)
)
