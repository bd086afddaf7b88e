// Package collector is a receiver of OTLP over HTTP and over gRPC, for tests
// that assert on what arrives.
package collector

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Collector keeps what it receives.
type Collector struct {
	// HTTP and GRPC are its base URLs.
	HTTP, GRPC string

	tracepb.UnimplementedTraceServiceServer
	mu      sync.Mutex // guards the rest
	news    chan struct{}
	spans   []*trace.ResourceSpans
	logs    []*logs.ResourceLogs
	metrics []*metrics.ResourceMetrics
	headers []map[string][]string
}

// Start returns a collector that stops when the test ends.
func Start(t testing.TB) *Collector {
	t.Helper()
	return start(t, nil)
}

func start(t testing.TB, secure *tls.Config) *Collector {
	t.Helper()
	c := &Collector{news: make(chan struct{})}
	web := httptest.NewUnstartedServer(http.HandlerFunc(c.post))
	var options []grpc.ServerOption
	scheme := "http://"
	if web.TLS = secure; secure == nil {
		web.Start()
	} else {
		web.StartTLS()
		options, scheme = append(options, grpc.Creds(credentials.NewTLS(secure.Clone()))), "https://"
	}
	t.Cleanup(web.Close)
	c.HTTP = web.URL

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.GRPC = scheme + ln.Addr().String()
	server := grpc.NewServer(options...)
	tracepb.RegisterTraceServiceServer(server, c)
	logspb.RegisterLogsServiceServer(server, logsService{c: c})
	metricspb.RegisterMetricsServiceServer(server, metricsService{c: c})
	go server.Serve(ln) //nolint:errcheck // Stop ends it
	t.Cleanup(server.Stop)
	return c
}

func (c *Collector) post(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	payload, err := io.ReadAll(body)
	if err == nil {
		switch r.URL.Path {
		case "/v1/traces":
			err = take(payload, func(m *tracepb.ExportTraceServiceRequest) { c.spans = append(c.spans, m.ResourceSpans...) }, c, r.Header)
		case "/v1/logs":
			err = take(payload, func(m *logspb.ExportLogsServiceRequest) { c.logs = append(c.logs, m.ResourceLogs...) }, c, r.Header)
		case "/v1/metrics":
			err = take(payload, func(m *metricspb.ExportMetricsServiceRequest) { c.metrics = append(c.metrics, m.ResourceMetrics...) }, c, r.Header)
		default:
			http.NotFound(w, r)
			return
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func take[M any, P interface {
	*M
	proto.Message
}](payload []byte, keep func(P), c *Collector, headers map[string][]string) error {
	m := P(new(M))
	if err := proto.Unmarshal(payload, m); err != nil {
		return err
	}
	c.keep(func() { keep(m) }, headers)
	return nil
}

func (c *Collector) keep(add func(), headers map[string][]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add()
	c.headers = append(c.headers, headers)
	close(c.news)
	c.news = make(chan struct{})
}

// Export receives traces over gRPC.
func (c *Collector) Export(ctx context.Context, m *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	c.keep(func() { c.spans = append(c.spans, m.ResourceSpans...) }, md)
	return new(tracepb.ExportTraceServiceResponse), nil
}

type logsService struct {
	logspb.UnimplementedLogsServiceServer
	c *Collector
}

func (s logsService) Export(ctx context.Context, m *logspb.ExportLogsServiceRequest) (*logspb.ExportLogsServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.c.keep(func() { s.c.logs = append(s.c.logs, m.ResourceLogs...) }, md)
	return new(logspb.ExportLogsServiceResponse), nil
}

type metricsService struct {
	metricspb.UnimplementedMetricsServiceServer
	c *Collector
}

func (s metricsService) Export(ctx context.Context, m *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.c.keep(func() { s.c.metrics = append(s.c.metrics, m.ResourceMetrics...) }, md)
	return new(metricspb.ExportMetricsServiceResponse), nil
}

// Spans returns every span received so far, in order of arrival.
func (c *Collector) Spans() []*trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*trace.Span
	for _, r := range c.spans {
		for _, s := range r.ScopeSpans {
			all = append(all, s.Spans...)
		}
	}
	return all
}

// Resources returns what received the spans were said to come from.
func (c *Collector) Resources() []*trace.ResourceSpans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*trace.ResourceSpans(nil), c.spans...)
}

// Logs returns every log record received so far.
func (c *Collector) Logs() []*logs.LogRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*logs.LogRecord
	for _, r := range c.logs {
		for _, s := range r.ScopeLogs {
			all = append(all, s.LogRecords...)
		}
	}
	return all
}

// Metrics returns the last state of every metric received so far, by name.
func (c *Collector) Metrics() map[string]*metrics.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]*metrics.Metric)
	for _, r := range c.metrics {
		for _, s := range r.ScopeMetrics {
			for _, m := range s.Metrics {
				all[m.Name] = m
			}
		}
	}
	return all
}

// Headers returns the headers, or the gRPC metadata, of every request.
func (c *Collector) Headers() []map[string][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]map[string][]string(nil), c.headers...)
}

// Wait returns once fulfilled does, which it asks after every arrival.
func (c *Collector) Wait(t testing.TB, what string, fulfilled func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		news := c.news
		c.mu.Unlock()
		if fulfilled() {
			return
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("the collector waits in vain for %s; it has %d spans", what, len(c.Spans()))
		}
	}
}

// WaitSpans returns the spans once there are n.
func (c *Collector) WaitSpans(t testing.TB, n int) []*trace.Span {
	t.Helper()
	c.Wait(t, "spans", func() bool { return len(c.Spans()) >= n })
	return c.Spans()
}
