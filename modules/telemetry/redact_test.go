package telemetry_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.opentelemetry.io/proto/otlp/logs/v1"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLXNlY3JldA"

// Nothing that lets its reader in gets into the log, wherever a client puts it.
func TestRedact(t *testing.T) {
	to, addr, up := collector.Start(t), gateway.Addr(t), upstream(t)
	dir := t.TempDir()
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	gateway.Run(t, "{\n\tauto_https off\n\tlog default {\n\t\toutput file "+filepath.Join(dir, "own.log")+"\n\t\tformat redact {\n\t\t\theader X-Session\n\t\t\tquery tkn\n\t\t}\n\t\tcore telemetry\n\t}\n\tservers {\n\t\tlog_credentials\n\t}\n}\n"+
		"http://"+addr+" {\n\tlog {\n\t\toutput file "+filepath.Join(dir, "access.log")+"\n\t\tformat redact {\n\t\t\twrap json {\n\t\t\t\ttime_key at\n\t\t\t}\n\t\t\theader X-Session\n\t\t\tquery tkn\n\t\t}\n\t}\n\ttelemetry\n"+
		"\thandle /broken {\n\t\terror broken 500\n\t}\n\theader Location https://idp.test/cb?code=s3cret-code&state=kept\n\treverse_proxy "+up+"\n}\n")
	for _, path := range []string{"/orders/" + jwt, "/broken"} {
		get(t, "http://"+addr+path+"?access_token=s3cret-query&page=7&x="+jwt+"&TKN=s3cret-own&%61ccess_token=s3cret-encoded", http.Header{
			"Authorization": {"Bearer " + jwt}, "Dpop": {jwt}, "Sec-Websocket-Protocol": {"graphql-ws, s3cret-protocol"},
			"Cookie": {"session=s3cret-cookie"}, "Referer": {"https://app.test/?id_token=s3cret-referer"}, "X-Session": {"s3cret-session"},
			"X-Forwarded-Uri": {"/?token=s3cret-forwarded&kept=1"}, "X-Kept": {"kept"}, "Proxy-Authorization": {"Basic s3cret-proxy"},
		})
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	everything := ""
	for _, name := range []string{"own.log", "access.log"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		everything += string(text)
	}
	for _, r := range to.Logs() {
		everything += r.String()
	}
	for _, s := range to.Spans() {
		everything += s.String()
	}
	for _, secret := range []string{"s3cret", "c2lnbmF0dXJl", "eyJ"} {
		if i := strings.Index(everything, secret); i >= 0 {
			t.Errorf("%s is told: …%s…", secret, everything[max(0, i-60):min(len(everything), i+60)])
		}
	}
	for _, kept := range []string{"page=7", "state=kept", `"X-Kept":["kept"]`, `"at":`} {
		if !strings.Contains(everything, kept) {
			t.Errorf("%s is lost", kept)
		}
	}
	for line := range strings.Lines(everything[:strings.LastIndex(everything, "}\n")+2]) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// heard counts what an operator's own core hears beside ours.
var heard atomic.Int64

type otherCore struct {
	zapcore.Core `json:"-"`
}

func init() { caddy.RegisterModule(otherCore{}) }

func (otherCore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.cores.other", New: func() caddy.Module {
		return &otherCore{Core: zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), counting{}, zapcore.InfoLevel)}
	}}
}

func (*otherCore) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

type counting struct{}

func (counting) Write(p []byte) (int, error) { heard.Add(1); return len(p), nil }
func (counting) Sync() error                 { return nil }

// The access log and the gateway's own are exported with the trace they
// belong to, and nothing of the export itself.
func TestLogsReachTheCollector(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			to, addr, up := collector.Start(t), gateway.Addr(t), upstream(t)
			endpoint := to.HTTP
			if protocol == "grpc" {
				endpoint = to.GRPC
			}
			environment(t, "ENABLE_TELEMETRY", "true", "SERVICE_NAME", "front-door", "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "OTEL_BLRP_SCHEDULE_DELAY", "20")
			gateway.Run(t, "{\n\tauto_https off\n\tlog default {\n\t\tcore telemetry {\n\t\t\tlevel INFO\n\t\t\talso other\n\t\t}\n\t}\n}\nhttp://"+addr+" {\n\tlog\n\ttelemetry\n\thandle /dead {\n\t\treverse_proxy "+gateway.Addr(t)+"\n\t}\n\thandle /quiet {\n\t\tlog_skip\n\t\trespond ok\n\t}\n\thandle /orders/* {\n\t\tbreaker_proxy "+up+"\n\t}\n}\n")
			get(t, "http://"+addr+"/quiet", nil)
			get(t, "http://"+addr+"/orders/1", http.Header{"Traceparent": {parent}})
			get(t, "http://"+addr+"/dead", nil)
			var access, own *v1.LogRecord
			to.Wait(t, "both records", func() bool {
				for _, r := range to.Logs() {
					switch {
					case r.Body.GetStringValue() == "handled request" && attr(r.Attributes, "url.path") == "/orders/1":
						access = r
					case attr(r.Attributes, "logger") == "http.log.error":
						own = r
					}
				}
				return access != nil && own != nil
			})
			if got := access.TraceId; string(got) == "" || attr(access.Attributes, "sallyport.upstream") != up || access.SeverityNumber != v1.SeverityNumber_SEVERITY_NUMBER_INFO {
				t.Errorf("the access record is %v", access)
			}
			for _, s := range kind(to.WaitSpans(t, 3), server) {
				if attr(s.Attributes, "url.path") == "/orders/1" && (string(s.TraceId) != string(access.TraceId) || string(s.SpanId) != string(access.SpanId)) {
					t.Errorf("the record is of trace %x and the span of %x", access.TraceId, s.TraceId)
				}
			}
			if own.SeverityNumber != v1.SeverityNumber_SEVERITY_NUMBER_ERROR || !strings.Contains(attr(own.Attributes, "request"), `"uri":"/dead"`) {
				t.Errorf("the error's record is %v", own)
			}
			if heard.Load() == 0 {
				t.Error("the other core has heard nothing")
			}
			for _, r := range to.Logs() {
				if logger := attr(r.Attributes, "logger"); logger == "sallyport_telemetry" || attr(r.Attributes, "url.path") == "/quiet" || strings.HasPrefix(logger, "http.log.access") {
					t.Errorf("a record that should not be: %v", r)
				}
			}
		})
	}
}
