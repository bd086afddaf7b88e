package telemetry

import (
	"context"
	"encoding/hex"
	"sync/atomic"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// gate stands before the SDK's batch processor, which drops spans without
// telling how many. Here the same bound is kept, and every drop is counted.
type gate struct {
	*lane
	limit  int64
	next   sdktrace.SpanProcessor
	closed atomic.Bool
}

// OnStart does nothing.
func (g *gate) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd passes the span on, unless as many wait as may.
func (g *gate) OnEnd(s sdktrace.ReadOnlySpan) {
	if g.closed.Load() {
		// A request that outlives its configuration: the next one's export
		// takes its span.
		if e := exporting(); e != nil && e.spans != nil && e.spans != g && !e.spans.closed.Load() {
			e.spans.OnEnd(s)
			return
		}
		g.dropped.Add(1)
		return
	}
	if g.waiting.Add(1) > g.limit {
		g.waiting.Add(-1)
		g.dropped.Add(1)
		return
	}
	g.next.OnEnd(s)
}

// full says that the next span would be dropped.
func (g *gate) full() bool { return g.closed.Load() || g.waiting.Load() >= g.limit }

// Shutdown sends what waits.
func (g *gate) Shutdown(ctx context.Context) error {
	g.closed.Store(true)
	return g.next.Shutdown(ctx)
}

// ForceFlush sends what waits.
func (g *gate) ForceFlush(ctx context.Context) error { return g.next.ForceFlush(ctx) }

// spanLane counts what the collector takes. It keeps errors to itself: the SDK
// would print each of them, and readiness and the counters tell them.
type spanLane struct {
	sdktrace.SpanExporter
	*lane
}

func (s *spanLane) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, done := s.bound(ctx)
	defer done()
	s.note(len(spans), s.SpanExporter.ExportSpans(ctx, spans))
	s.waiting.Add(int64(-len(spans)))
	return nil
}

// metricLane is the same for metrics.
type metricLane struct {
	sdkmetric.Exporter
	*lane
}

func (m *metricLane) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	ctx, done := m.bound(ctx)
	defer done()
	n := 0
	for _, s := range all.ScopeMetrics {
		n += len(s.Metrics)
		for _, metric := range s.Metrics {
			if h, ok := metric.Data.(metricdata.Histogram[float64]); ok {
				mend(h.DataPoints)
			}
		}
	}
	m.note(n, m.Exporter.Export(ctx, all))
	return nil
}

// mend turns the ids of exemplars into what they are: the Prometheus bridge
// hands over the bytes of their hex text, which no collector finds a trace by.
func mend(points []metricdata.HistogramDataPoint[float64]) {
	for _, p := range points {
		for i := range p.Exemplars {
			e := &p.Exemplars[i]
			if id, err := hex.DecodeString(string(e.TraceID)); err == nil && len(id) == 16 {
				e.TraceID = id
			}
			if id, err := hex.DecodeString(string(e.SpanID)); err == nil && len(id) == 8 {
				e.SpanID = id
			}
		}
	}
}

var (
	_ sdktrace.SpanProcessor = (*gate)(nil)
	_ sdktrace.SpanExporter  = (*spanLane)(nil)
	_ sdkmetric.Exporter     = (*metricLane)(nil)
)
