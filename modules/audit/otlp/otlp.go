// Package otlp is the audit sink for OpenTelemetry collectors: each event is a
// log record, sent as OTLP over HTTP in protobuf.
package otlp

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-gateway/sallyport/modules/audit"
)

func init() { caddy.RegisterModule(new(Sink)) }

// Sink posts log records to a collector.
type Sink struct {
	// Web is the collector: its URL is the logs endpoint, such as
	// https://collector:4318/v1/logs. Without a path `/v1/logs` is added.
	audit.Web
}

// CaddyModule returns the Caddy module information.
func (*Sink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.otlp", New: func() caddy.Module { return new(Sink) }}
}

// Provision resolves the address; it connects to nothing.
func (s *Sink) Provision(ctx caddy.Context) error { return s.Open("otlp", "/v1/logs", ctx.Logger()) }

// Deliver posts the batch as one export request.
func (s *Sink) Deliver(ctx context.Context, batch audit.Batch) error {
	body, err := proto.Marshal(export(batch))
	if err != nil {
		return err
	}
	answer, err := s.Post(ctx, body, http.Header{"Content-Type": {"application/x-protobuf"}})
	if err != nil {
		return err
	}
	return partial(answer)
}

// partial finds out whether a collector that said yes left records out. The
// batch is then halved until the record it does not take is alone.
func partial(text []byte) error {
	var answer collogs.ExportLogsServiceResponse
	if proto.Unmarshal(text, &answer) != nil {
		return nil // a success with a body that is not ours to read
	}
	if p := answer.GetPartialSuccess(); p.GetRejectedLogRecords() > 0 {
		return &audit.Fault{Verdict: audit.Poison, Err: errors.New("collector rejects " + strconv.FormatInt(p.GetRejectedLogRecords(), 10) + " records: " + p.GetErrorMessage())}
	}
	return nil
}

func export(batch audit.Batch) *collogs.ExportLogsServiceRequest {
	now := uint64(time.Now().UnixNano())
	records := make([]*logs.LogRecord, len(batch.Events))
	for i, e := range batch.Events {
		records[i] = &logs.LogRecord{
			TimeUnixNano: uint64(e.Time.UnixNano()), ObservedTimeUnixNano: now, EventName: e.Type,
			SeverityNumber: logs.SeverityNumber_SEVERITY_NUMBER_INFO,
			Body:           text(string(e.JSON)),
			Attributes: []*common.KeyValue{
				{Key: "cloudevents.event_type", Value: text(e.Type)},
				{Key: "sallyport.audit.epoch", Value: text(strconv.FormatUint(e.Mark.Epoch, 10))},
				{Key: "sallyport.audit.seq", Value: text(strconv.FormatUint(e.Mark.Seq, 10))},
			},
		}
	}
	return &collogs.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{
			{Key: "service.name", Value: text("sallyport")},
			{Key: "service.instance.id", Value: text(batch.Node)},
		}},
		ScopeLogs: []*logs.ScopeLogs{{Scope: &common.InstrumentationScope{Name: "sallyport.audit"}, LogRecords: records}},
	}}}
}

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

// UnmarshalCaddyfile sets up the sink. Syntax:
//
//	otlp <url> {
//		token <token>
//		insecure
//		ca <file>
//		cert <file>
//		key <file>
//	}
func (s *Sink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return s.Read(d, "otlp") }

var (
	_ caddy.Provisioner     = (*Sink)(nil)
	_ caddy.CleanerUpper    = (*Sink)(nil)
	_ caddyfile.Unmarshaler = (*Sink)(nil)
	_ audit.Sink            = (*Sink)(nil)
)
