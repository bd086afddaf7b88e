// Package otlp is the audit sink for OpenTelemetry collectors: each event is a
// log record, sent as OTLP over HTTP in protobuf.
package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	"github.com/sallyport-gateway/sallyport/modules/secret"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(Sink)) }

// Sink posts log records to a collector.
type Sink struct {
	// URL is the collector's logs endpoint, such as
	// https://collector:4318/v1/logs. Without a path `/v1/logs` is added.
	URL string `json:"url,omitempty"`

	// Token is a bearer token, as `{env.X}` or `{file.X}`. Default: none.
	Token string `json:"token,omitempty"`

	// Insecure allows plain HTTP to another host than this one.
	Insecure bool `json:"insecure,omitempty"`

	audit.TLS

	url, token string
	client     *http.Client
}

// CaddyModule returns the Caddy module information.
func (*Sink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.otlp", New: func() caddy.Module { return new(Sink) }}
}

// Provision resolves the address; it connects to nothing.
func (s *Sink) Provision(caddy.Context) error {
	raw, err := secret.Resolve(s.URL)
	if err != nil {
		return fmt.Errorf("otlp sink: url: %w", err)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("otlp sink: url '%s' is no http or https address", raw)
	}
	if u.Scheme == "http" && !s.Insecure && !audit.Loopback(u.Hostname()) {
		return fmt.Errorf("otlp sink: '%s' would send events in clear text to another host; use https, or write 'insecure'", raw)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/logs"
	}
	s.url = u.String()
	if s.Token != "" {
		if s.token, err = secret.Resolve(s.Token); err != nil {
			return fmt.Errorf("otlp sink: token: %w", err)
		}
	}
	conf, err := s.TLS.Config()
	if err != nil {
		return fmt.Errorf("otlp sink: %w", err)
	}
	s.client = &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: conf, MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// Deliver posts the batch as one export request.
func (s *Sink) Deliver(ctx context.Context, batch audit.Batch) error {
	body, err := proto.Marshal(export(batch))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "Sallyport")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if err := audit.Judge(resp); err != nil {
		return err
	}
	return partial(text)
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

// Cleanup closes idle connections.
func (s *Sink) Cleanup() error {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	return nil
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
func (s *Sink) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next()
	if s.URL, err = syntax.One(d, "a url"); err != nil {
		return err
	}
	return syntax.Block(d, "sink otlp", append(s.TLS.Options(),
		syntax.Option{Name: "token", Read: syntax.Text(&s.Token)},
		syntax.Option{Name: "insecure", Read: syntax.Flag(&s.Insecure)})...)
}

var (
	_ caddy.Provisioner     = (*Sink)(nil)
	_ caddy.CleanerUpper    = (*Sink)(nil)
	_ caddyfile.Unmarshaler = (*Sink)(nil)
	_ audit.Sink            = (*Sink)(nil)
)
