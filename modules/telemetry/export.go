package telemetry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// exports holds the exports by their settings, so that a reload that changes
// none of them loses no span.
var exports = caddy.NewUsagePool()

// farewell bounds the last export, when the process ends or the settings change.
const farewell = 3 * time.Second

// export is the SDK's providers for one set of settings. It opens nothing
// before run.
type export struct {
	settings *settings

	once    sync.Once
	failure error
	tracer  trace.Tracer // nil where traces are off
	spans   *gate
	lanes   []*lane
	closers []func(context.Context) error
}

// run starts the delivery; only the first call does.
func (e *export) run() error {
	e.once.Do(func() { e.failure = errors.Join(e.runTraces(), e.runMetrics()) })
	return e.failure
}

func (e *export) runTraces() error {
	s := e.settings
	if s.traces == nil {
		return nil
	}
	out, err := s.traces.spanExporter()
	if err != nil {
		return err
	}
	l := newLane("traces")
	e.spans = &gate{lane: l, limit: int64(s.queue), next: sdktrace.NewBatchSpanProcessor(&spanLane{SpanExporter: out, lane: l},
		sdktrace.WithMaxQueueSize(s.queue), sdktrace.WithMaxExportBatchSize(s.batch),
		sdktrace.WithBatchTimeout(s.delay), sdktrace.WithExportTimeout(s.patience))}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(s.resource), sdktrace.WithSampler(s.sampler), sdktrace.WithSpanProcessor(e.spans))
	e.tracer = provider.Tracer(scope, trace.WithInstrumentationVersion(version()))
	e.lanes = append(e.lanes, l)
	e.closers = append(e.closers, provider.Shutdown)
	return nil
}

func (e *export) runMetrics() error {
	s := e.settings
	if s.metrics == nil {
		return nil
	}
	out, err := s.metrics.metricExporter()
	if err != nil {
		return err
	}
	l := newLane("metrics")
	reader := sdkmetric.NewPeriodicReader(&metricLane{Exporter: out, lane: l}, sdkmetric.WithInterval(s.interval),
		sdkmetric.WithTimeout(s.patience),
		sdkmetric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(prometheus.GathererFunc(gather)))))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(s.resource), sdkmetric.WithReader(reader))
	e.lanes = append(e.lanes, l)
	e.closers = append(e.closers, provider.Shutdown)
	return nil
}

// Destruct sends what waits, for as long as farewell at most.
func (e *export) Destruct() error {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	var wg sync.WaitGroup
	for _, end := range e.closers {
		wg.Go(func() { _ = end(ctx) }) // the lane has counted what was lost
	}
	wg.Wait()
	for _, l := range e.lanes {
		l.cancel()
	}
	return nil
}

// lane counts how the delivery of one signal fares.
type lane struct {
	signal                              string
	delivered, failed, dropped, waiting atomic.Int64

	ctx    context.Context // done when the export ends, and with it every attempt
	cancel context.CancelFunc

	mu    sync.Mutex // guards the rest
	err   error
	since time.Time
}

func newLane(signal string) *lane {
	l := &lane{signal: signal}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// bound returns ctx, ended early where the export ends.
func (l *lane) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func (l *lane) note(n int, err error) {
	if err == nil {
		l.delivered.Add(int64(n))
	} else {
		l.failed.Add(int64(n))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.err == nil {
		l.since = time.Now()
	}
	l.err = err
}

// trouble returns why the last export failed, and since when all have.
func (l *lane) trouble() (since time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since, l.err
}
