package telemetry

import (
	"context"
	"encoding/hex"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// metricLane counts what the collector takes. It keeps errors to itself: the SDK
// would print each of them, and readiness and the counters tell them.
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
	_ sdkmetric.Exporter = (*metricLane)(nil)
)
