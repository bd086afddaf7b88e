package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// exports holds the exports by their settings, so that a reload that changes
// none of them loses no span.
var exports = caddy.NewUsagePool()

// farewell bounds the last export, when the process ends or the settings change.
const farewell = 3 * time.Second

// export is the delivery of one set of settings. It opens nothing
// before run.
type export struct {
	settings *settings

	once    sync.Once
	failure error
	tracer  *tracer // nil where traces are off
	diary   *diary  // nil where logs are off
	lanes   []*lane
	closers []func(context.Context) error
}

// run starts the delivery; only the first call does.
func (e *export) run() error {
	e.once.Do(func() { e.failure = errors.Join(e.runTraces(), e.runLogs(), e.runMetrics()) })
	return e.failure
}

func (e *export) runTraces() error {
	s := e.settings
	if s.traces == nil {
		return nil
	}
	out, err := e.outbox(traces, s.traces, s.spanQueue)
	if err != nil {
		return err
	}
	e.tracer = &tracer{sampler: s.sampler, always: takesAll(s.sampler), out: out, limits: s.spanLimits}
	return nil
}

func (e *export) runLogs() error {
	s := e.settings
	if s.logs == nil {
		return nil
	}
	out, err := e.outbox(logs, s.logs, s.logQueue)
	if err != nil {
		return err
	}
	e.diary = &diary{out: out, limits: s.logLimits}
	return nil
}

// outbox starts the delivery of a signal's records.
func (e *export) outbox(sig signal, to *target, q queue) (*outbox, error) {
	client, err := to.client(sig)
	if err != nil {
		return nil, err
	}
	if err := client.Start(context.Background()); err != nil { // it dials nothing yet
		return nil, err
	}
	resource, schema := describe(e.settings.resource), e.settings.resource.SchemaURL()
	by := &common.InstrumentationScope{Name: scope, Version: version()}
	out := &outbox{lane: newLane(sig.name), limit: q.Limit, batch: q.Batch, delay: q.Delay, patience: q.Patience}
	out.upload = func(ctx context.Context, records []byte) error {
		// The records are written already: to protobuf they are a field that
		// this message does not know, and go out as they are.
		batch := &tracepb.ScopeSpans{Scope: by}
		batch.ProtoReflect().SetUnknown(records)
		return client.UploadTraces(ctx, []*tracepb.ResourceSpans{{Resource: resource, SchemaUrl: schema, ScopeSpans: []*tracepb.ScopeSpans{batch}}})
	}
	out.start()
	e.lanes = append(e.lanes, out.lane)
	e.closers = append(e.closers, func(ctx context.Context) error {
		out.close(ctx)
		return client.Stop(ctx)
	})
	return out, nil
}

// describe writes a resource as the protocol has it.
func describe(r *resource.Resource) *resourcepb.Resource {
	out := new(resourcepb.Resource)
	for _, kv := range r.Attributes() {
		value := &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: strings.ToValidUTF8(kv.Value.String(), "\uFFFD")}}
		if kv.Value.Type() == attribute.INT64 {
			value.Value = &common.AnyValue_IntValue{IntValue: kv.Value.AsInt64()}
		}
		out.Attributes = append(out.Attributes, &common.KeyValue{Key: string(kv.Key), Value: value})
	}
	return out
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
	l.fare(err)
}

// fare keeps how the latest attempt went, for readiness.
func (l *lane) fare(err error) {
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
