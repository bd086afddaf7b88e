package telemetry

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
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
		for i := range s.Metrics {
			metric := &s.Metrics[i]
			h, ok := metric.Data.(metricdata.Histogram[float64])
			if ok {
				mend(h.DataPoints)
			}
			if name, known := conventional[metric.Name]; known && ok {
				metric.Name = name
				for j := range h.DataPoints {
					h.DataPoints[j].Attributes = conventions(h.DataPoints[j].Attributes)
				}
			}
			metric.Unit = unitOf(metric.Name, metric.Unit)
		}
	}
	m.note(n, m.Exporter.Export(ctx, all))
	return nil
}

// conventional are the metrics that have a name of OpenTelemetry's, and what it
// is there.
var conventional = map[string]string{
	"http_server_request_duration_seconds": "http.server.request.duration",
	"http_client_request_duration_seconds": "http.client.request.duration",
	"rpc_server_call_duration_seconds":     "rpc.server.call.duration",
	"db_client_operation_duration_seconds": "db.client.operation.duration",
}

var conventionalLabels = map[attribute.Key]attribute.Key{
	"http_request_method": "http.request.method", "url_scheme": "url.scheme", "http_response_status_code": "http.response.status_code",
	"http_route": "http.route", "error_type": "error.type", "server_address": "server.address", "server_port": "server.port",
	"rpc_system_name": "rpc.system.name", "rpc_service": "rpc.service", "rpc_response_status_code": "rpc.response.status_code",
	"db_system_name": "db.system.name", "db_operation_name": "db.operation.name", "sallyport_route": "sallyport.route", "sallyport_class": "sallyport.class",
}

// conventions gives the attributes the names that they have over OTLP, and the
// numbers among them their type. An empty one says nothing.
func conventions(set attribute.Set) attribute.Set {
	attrs := make([]attribute.KeyValue, 0, set.Len())
	for _, kv := range set.ToSlice() {
		text := kv.Value.AsString()
		if text == "" {
			continue
		}
		if name, known := conventionalLabels[kv.Key]; known {
			kv.Key = name
		}
		if n, err := strconv.Atoi(text); err == nil && (kv.Key == "http.response.status_code" || kv.Key == "server.port") {
			kv.Value = attribute.IntValue(n)
		}
		attrs = append(attrs, kv)
	}
	return attribute.NewSet(attrs...)
}

// unitOf reads the unit off a name, as Prometheus has it.
func unitOf(name, said string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case said != "":
		return said
	case strings.HasSuffix(name, "_seconds"), strings.HasSuffix(name, ".duration"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "By"
	}
	return ""
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

var _ sdkmetric.Exporter = (*metricLane)(nil)
