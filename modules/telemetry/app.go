// Package telemetry is the windows of the house: a span per request and per
// upstream attempt, request metrics, fields in the access log, and their way
// to a collector.
package telemetry

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func init() { caddy.RegisterModule(new(App)) }

// App sends traces, metrics and logs to an OpenTelemetry collector. Whatever
// is not configured here is read from the environment: ENABLE_TELEMETRY,
// SERVICE_NAME and the standard OTEL_* variables. ENABLE_TELEMETRY=false, or
// OTEL_SDK_DISABLED=true, switches the export off whatever stands here.
type App struct {
	// Service is the name this gateway has in traces and metrics. Default:
	// OTEL_SERVICE_NAME, SERVICE_NAME, or `sallyport`.
	Service string `json:"service,omitempty"`
	// Endpoint is the collector's base URL, such as `http://collector:4318`.
	// Default: OTEL_EXPORTER_OTLP_ENDPOINT, or `http://localhost:4318`.
	Endpoint string `json:"endpoint,omitempty"`
	// Protocol is `grpc` or `http/protobuf`. Default:
	// OTEL_EXPORTER_OTLP_PROTOCOL, or else `grpc` where the endpoint's port is
	// 4317 and `http/protobuf` everywhere else.
	Protocol string `json:"protocol,omitempty"`
	// Headers are sent with every export. Values may be references, such as
	// `{env.COLLECTOR_TOKEN}`.
	Headers map[string]string `json:"headers,omitempty"`
	// HeadersFile is a file of `name=value` lines, read anew for each export.
	HeadersFile string `json:"headers_file,omitempty"`
	// Compression is `gzip` or `none`. Default: none.
	Compression string `json:"compression,omitempty"`
	// Timeout bounds one export. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// TLS is used where the endpoint's scheme is https.
	TLS *TLS `json:"tls,omitempty"`
	// Signals are those that are exported. Default: traces, metrics and logs.
	Signals []string `json:"signals,omitempty"`
	// Sampler is one of OpenTelemetry's: `always_on`, `always_off`,
	// `traceidratio`, or one of them after `parentbased_`. Default:
	// `parentbased_always_on`.
	Sampler string `json:"sampler,omitempty"`
	// Ratio is the share of traces that a ratio sampler keeps. Default: 1.
	Ratio *float64 `json:"ratio,omitempty"`
	// Propagators are `tracecontext`, `baggage`, `b3`, `b3multi`, `jaeger`,
	// `xray`, `ottrace`, or `none`. Default: tracecontext and baggage.
	Propagators []string `json:"propagators,omitempty"`
	// Trust says whose trace context is continued: `always`, `never`, or
	// address ranges, of which `private` is short for all private ones. Of
	// everybody else it becomes a link. Default: private.
	Trust []string `json:"trust_traceparent,omitempty"`
	// Attributes are added to the resource.
	Attributes map[string]string `json:"attributes,omitempty"`
	// MetricsInterval is the time between two exports of the metrics.
	// Default: 60s.
	MetricsInterval caddy.Duration `json:"metrics_interval,omitempty"`
	// Subject is how the access log names the caller: `plain`, `hash` or
	// `off`. Default: plain.
	Subject string `json:"subject,omitempty"`

	settings *settings
	key      string
	export   *export
	leave    func()
	ctx      caddy.Context
	logger   *zap.Logger
}

// TLS is how to trust a collector, and how to be known to it.
type TLS struct {
	// CA is a file of PEM certificates to trust instead of the system's.
	CA string `json:"ca,omitempty"`
	// Certificate and Key are PEM files with a client certificate.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport_telemetry", New: func() caddy.Module { return new(App) }}
}

// Provision reads the environment. It opens nothing.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	s, err := a.resolve(os.Getenv)
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	a.settings = s
	if err := instrument.Register(ctx.GetMetricsRegistry(), collectors()...); err != nil {
		return err
	}
	if !s.enabled {
		return nil
	}
	key := s.key()
	pooled, _, err := exports.LoadOrNew(key, func() (caddy.Destructor, error) { return &export{settings: s}, nil })
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	a.key, a.export = key, pooled.(*export)
	return nil
}

// Start begins the export.
func (a *App) Start() error {
	if a.export == nil {
		if a.settings.overruled != "" {
			a.logger.Warn("telemetry is configured and switched off by the environment", zap.String("variable", a.settings.overruled))
		}
		return nil
	}
	if err := a.export.run(); err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	a.leave = stand(&standing{export: a.export, gather: a.ctx.GetMetricsRegistry().Gather})
	a.logger.Info("exporting telemetry", zap.String("service", a.settings.service), zap.String("sampler", a.settings.sampled))
	return nil
}

// Stop leaves the export running: on exit the requests in flight still have
// spans to tell, and after a reload the next configuration's pipe takes them.
func (a *App) Stop() error { return nil }

// Cleanup ends the export unless the next configuration goes on with it.
func (a *App) Cleanup() error {
	if a.leave != nil {
		a.leave()
	}
	if a.key == "" {
		return nil
	}
	_, err := exports.Delete(a.key)
	a.key = ""
	return err
}

// Ready says what the collector does not take. It is never a reason to stop
// serving.
func (a *App) Ready(context.Context) error {
	if a.export == nil {
		return nil
	}
	for _, l := range a.export.lanes {
		if since, err := l.trouble(); err != nil {
			return degraded{fmt.Errorf("%s cannot be exported since %s: %w", l.signal, since.UTC().Format(time.RFC3339), err)}
		}
	}
	return nil
}

type degraded struct{ error }

func (d degraded) Unwrap() error { return d.error }
func (degraded) Degraded() bool  { return true }

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
