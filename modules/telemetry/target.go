package telemetry

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// signal is one of OpenTelemetry's kinds of data.
type signal struct{ name, path, method string }

var (
	traces  = signal{"traces", "/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"}
	metrics = signal{"metrics", "/v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"}
	logs    = signal{"logs", "/v1/logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"}
	signals = []signal{traces, metrics, logs}
)

// target is where and how one signal is delivered: the block and the
// environment, read together and checked before anything starts.
type target struct {
	URL     string
	GRPC    bool
	Gzip    bool
	Timeout time.Duration
	TLS     TLS
	headers
}

// target returns where a signal goes, or nil where it is switched off.
func (e *environment) target(a *App, sig signal) *target {
	upper := strings.ToUpper(sig.name)
	if !e.wanted(a, sig, "OTEL_"+upper+"_EXPORTER") {
		return nil
	}
	// The variable of the signal wins over the one of all signals.
	own := func(option string) string {
		return first(e.getenv("OTEL_EXPORTER_OTLP_"+upper+"_"+option), e.getenv("OTEL_EXPORTER_OTLP_"+option))
	}
	whole := ""
	if a.Endpoint == "" {
		whole = e.getenv("OTEL_EXPORTER_OTLP_" + upper + "_ENDPOINT")
	}
	u := e.url(first(whole, a.Endpoint, e.getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "http://localhost:4318"), own("INSECURE"))
	t := &target{URL: u.String(), GRPC: e.protocol(first(a.Protocol, own("PROTOCOL")), u) == "grpc"}
	if !t.GRPC && whole == "" {
		t.URL = strings.TrimSuffix(t.URL, "/") + sig.path
	}
	t.Gzip = e.gzip(first(a.Compression, own("COMPRESSION")))
	t.Timeout = time.Duration(a.Timeout)
	if t.Timeout <= 0 {
		t.Timeout = e.millis("OTEL_EXPORTER_OTLP_"+upper+"_TIMEOUT", e.millis("OTEL_EXPORTER_OTLP_TIMEOUT", defaultTimeout))
	}
	t.TLS = TLS{CA: own("CERTIFICATE"), Certificate: own("CLIENT_CERTIFICATE"), Key: own("CLIENT_KEY")}
	if a.TLS != nil {
		t.TLS = *a.TLS
	}
	if _, err := t.TLS.load(); err != nil {
		e.fail("%w", err)
	}
	t.headers = e.headers(a, own)
	return t
}

func (e *environment) wanted(a *App, sig signal, variable string) bool {
	if len(a.Signals) > 0 {
		return slices.Contains(a.Signals, sig.name)
	}
	switch v := e.getenv(variable); {
	case v == "none", v == "prometheus" && sig.name == "metrics": // /metrics is there anyway
		return false
	case v != "" && v != "otlp":
		e.fail("environment variable %s is otlp or none, not '%s'", variable, v)
	}
	return true
}

func (e *environment) url(text, plain string) *url.URL {
	if !strings.Contains(text, "://") {
		scheme := "https://"
		if strings.EqualFold(plain, "true") {
			scheme = "http://"
		}
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		e.fail("the endpoint is a URL such as http://collector:4318, not '%s'", text)
		return new(url.URL)
	}
	return u
}

func (e *environment) protocol(text string, u *url.URL) string {
	switch text {
	case "grpc", "http/protobuf":
		return text
	case "":
		if u.Port() == "4317" {
			return "grpc"
		}
		return "http/protobuf"
	}
	e.fail("the protocol is grpc or http/protobuf, not '%s'", text)
	return ""
}

func (e *environment) gzip(text string) bool {
	if text != "" && text != "gzip" && text != "none" {
		e.fail("the compression is gzip or none, not '%s'", text)
	}
	return text == "gzip"
}

// http is a client that authorizes each export with what the headers
// file says by then.
func (t *target) http() (*http.Client, error) {
	conf, err := t.TLS.load()
	if err != nil {
		return nil, err
	}
	return &http.Client{Timeout: t.Timeout, Transport: &authorized{headers: t.headers, next: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second,
	}}}, nil
}

// credentials are those of the connection and those of each call.
func (t *target) credentials() (credentials.TransportCredentials, grpc.DialOption, error) {
	each := grpc.WithPerRPCCredentials(t.headers)
	if strings.HasPrefix(t.URL, "http://") {
		return insecure.NewCredentials(), each, nil
	}
	conf, err := t.TLS.load()
	return credentials.NewTLS(conf), each, err
}

// client speaks OTLP for traces and, at another path or by another method, for
// logs: the messages of the two have the same layout around their records.
func (t *target) client(sig signal) (otlptrace.Client, error) {
	if !t.GRPC {
		client, err := t.http()
		if err != nil {
			return nil, err
		}
		return otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(t.URL), otlptracehttp.WithHTTPClient(client),
			otlptracehttp.WithTimeout(t.Timeout), otlptracehttp.WithHeaders(nil), otlptracehttp.WithCompression(pick(t.Gzip, otlptracehttp.GzipCompression, otlptracehttp.NoCompression))), nil
	}
	creds, auth, err := t.credentials()
	if err != nil {
		return nil, err
	}
	method := grpc.WithUnaryInterceptor(func(ctx context.Context, _ string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(ctx, sig.method, req, reply, cc, opts...)
	})
	options := []otlptracegrpc.Option{otlptracegrpc.WithTLSCredentials(creds), otlptracegrpc.WithEndpointURL(t.URL),
		otlptracegrpc.WithTimeout(t.Timeout), otlptracegrpc.WithHeaders(nil), otlptracegrpc.WithDialOption(auth, method)}
	if t.compressionSaid() {
		options = append(options, otlptracegrpc.WithCompressor(pick(t.Gzip, "gzip", "")))
	}
	return otlptracegrpc.NewClient(options...), nil
}

func (t *target) metricExporter() (sdkmetric.Exporter, error) {
	if !t.GRPC {
		client, err := t.http()
		if err != nil {
			return nil, err
		}
		return otlpmetrichttp.New(context.Background(), otlpmetrichttp.WithEndpointURL(t.URL), otlpmetrichttp.WithHTTPClient(client),
			otlpmetrichttp.WithTimeout(t.Timeout), otlpmetrichttp.WithHeaders(nil), otlpmetrichttp.WithCompression(pick(t.Gzip, otlpmetrichttp.GzipCompression, otlpmetrichttp.NoCompression)))
	}
	creds, auth, err := t.credentials()
	if err != nil {
		return nil, err
	}
	options := []otlpmetricgrpc.Option{otlpmetricgrpc.WithTLSCredentials(creds), otlpmetricgrpc.WithEndpointURL(t.URL),
		otlpmetricgrpc.WithTimeout(t.Timeout), otlpmetricgrpc.WithHeaders(nil), otlpmetricgrpc.WithDialOption(auth)}
	if t.compressionSaid() {
		options = append(options, otlpmetricgrpc.WithCompressor(pick(t.Gzip, "gzip", "")))
	}
	return otlpmetricgrpc.New(context.Background(), options...)
}

// compressionSaid says that the exporters must be told: those over gRPC log a
// complaint about being told of no compression, and without it read the
// environment, which the block may have overruled.
func (t *target) compressionSaid() bool {
	said := t.Gzip
	for _, of := range []string{"", "TRACES_", "METRICS_"} {
		said = said || os.Getenv("OTEL_EXPORTER_OTLP_"+of+"COMPRESSION") != ""
	}
	return said
}

func pick[T any](yes bool, one, other T) T {
	if yes {
		return one
	}
	return other
}
