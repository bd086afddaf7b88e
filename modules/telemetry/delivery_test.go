package telemetry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// All three signals reach a collector that asks for a client certificate, with
// compression and credentials from a file; and the block says the same as the
// environment.
func TestDeliveryOverTLS(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		for _, by := range []string{"environment", "block"} {
			t.Run(protocol+" by "+by, func(t *testing.T) {
				to, files := collector.StartTLS(t)
				addr := gateway.Addr(t)
				endpoint := to.HTTP
				if protocol == "grpc" {
					endpoint = to.GRPC
				}
				headers := filepath.Join(t.TempDir(), "headers")
				if err := os.WriteFile(headers, []byte("x-api-key=s3cret\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				environment(t, "ENABLE_TELEMETRY", "true", "OTEL_METRIC_EXPORT_INTERVAL", "30", "OTEL_BLRP_SCHEDULE_DELAY", "20")
				block := ""
				if by == "environment" {
					environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "OTEL_EXPORTER_OTLP_COMPRESSION", "gzip",
						"OTEL_EXPORTER_OTLP_HEADERS_FILE", headers, "OTEL_EXPORTER_OTLP_CERTIFICATE", files.CA,
						"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", files.Certificate, "OTEL_EXPORTER_OTLP_CLIENT_KEY", files.Key)
				} else {
					block = fmt.Sprintf("\ttelemetry {\n\t\tendpoint %s\n\t\tprotocol %s\n\t\tcompression gzip\n\t\theaders_file %s\n\t\ttls {\n\t\t\tca %s\n\t\t\tcertificate %s\n\t\t\tkey %s\n\t\t}\n\t}\n",
						endpoint, protocol, headers, files.CA, files.Certificate, files.Key)
				}
				gateway.Run(t, "{\n\tauto_https off\n"+block+"}\nhttp://"+addr+" {\n\tlog\n\ttelemetry\n\trespond ok\n}\n")
				get(t, "http://"+addr+"/x", nil)
				to.Wait(t, "a span, a record and metrics", func() bool {
					return len(to.Spans()) > 0 && len(to.Logs()) > 0 && to.Metrics()["sallyport_build_info"] != nil
				})
				for _, h := range to.Headers() {
					if key := append(h["X-Api-Key"], h["x-api-key"]...); len(key) != 1 || key[0] != "s3cret" {
						t.Errorf("an export came with key %q", key)
					}
					if protocol != "grpc" && h["Content-Encoding"][0] != "gzip" {
						t.Errorf("an export came with encoding %q", h["Content-Encoding"])
					}
				}
			})
		}
	}
}

// Each signal has variables of its own, and they win.
func TestEachSignalHasItsEndpoint(t *testing.T) {
	traces, metrics, logs, addr := collector.Start(t), collector.Start(t), collector.Start(t), gateway.Addr(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_METRIC_EXPORT_INTERVAL", "30", "OTEL_BLRP_SCHEDULE_DELAY", "20",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS", "x-of=all",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.HTTP+"/v1/traces", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-of=traces",
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", metrics.GRPC, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc",
		"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", logs.GRPC, "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip")
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\tlog\n\ttelemetry\n\trespond ok\n}\n")
	get(t, "http://"+addr+"/x", nil)
	traces.WaitSpans(t, 1)
	metrics.Wait(t, "metrics", func() bool { return metrics.Metrics()["sallyport_build_info"] != nil })
	logs.Wait(t, "a record", func() bool { return len(logs.Logs()) > 0 })
	if len(traces.Logs()) > 0 || len(logs.Spans()) > 0 || len(metrics.Spans()) > 0 {
		t.Error("a signal went to another's endpoint")
	}
	if of := traces.Headers()[0]["X-Of"]; len(of) != 1 || of[0] != "traces" {
		t.Errorf("traces came with header %q", of)
	}
	if of := logs.Headers()[0]["x-of"]; len(of) != 1 || of[0] != "all" {
		t.Errorf("logs came with header %q", of)
	}
}

// The environment chooses the formats; a trace in any of them goes on.
func TestPropagators(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, c := range []struct{ format, header, value, seen string }{
		{"tracecontext", "Traceparent", "00-" + trace + "-" + span + "-01", "00-" + trace + "-%s-01"},
		{"b3", "B3", trace + "-" + span + "-1", trace + "-%s-1"},
		{"b3multi", "X-B3-Spanid", "", "%s"},
		{"jaeger", "Uber-Trace-Id", trace + ":" + span + ":0:1", trace + ":%s:0:1"},
	} {
		t.Run(c.format, func(t *testing.T) {
			to, addr := collector.Start(t), gateway.Addr(t)
			seen := make(chan http.Header, 1)
			up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
			defer up.Close()
			environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP, "OTEL_PROPAGATORS", c.format)
			gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\tbreaker_proxy "+strings.TrimPrefix(up.URL, "http://")+"\n}\n")
			h := http.Header{c.header: {c.value}}
			if c.format == "b3multi" {
				h = http.Header{"X-B3-Traceid": {trace}, "X-B3-Spanid": {span}, "X-B3-Sampled": {"1"}}
			}
			get(t, "http://"+addr+"/x", h)
			if err := caddy.Stop(); err != nil { // sends what waits
				t.Fatal(err)
			}
			in, out := kind(to.Spans(), server)[0], kind(to.Spans(), client)[0]
			if fmt.Sprintf("%x-%x", in.TraceId, in.ParentSpanId) != trace+"-"+span {
				t.Errorf("the server span is of %x, child of %x", in.TraceId, in.ParentSpanId)
			}
			got := <-seen
			if want := fmt.Sprintf(c.seen, fmt.Sprintf("%x", out.SpanId)); got.Get(c.header) != want {
				t.Errorf("the upstream saw %s: %q, want %q", c.header, got.Get(c.header), want)
			}
			if c.format != "tracecontext" && got.Get("Traceparent") != "" {
				t.Errorf("the upstream saw a traceparent %q, which nobody asked for", got.Get("Traceparent"))
			}
		})
	}
}

// Every attempt has a span: the one that failed and the one after it, and both
// of a hedged request.
func TestEveryAttemptHasASpan(t *testing.T) {
	to, addr, dead := collector.Start(t), gateway.Addr(t), gateway.Addr(t)
	up, done := upstream(t), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer slow.Close()
	defer close(done)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\thandle /retry {\n\t\tbreaker_proxy "+dead+" "+up+" {\n\t\t\tlb_policy first\n\t\t\tlb_retries 2\n\t\t\tbreaker brittle {\n\t\t\t\tconsecutive 1\n\t\t\t}\n\t\t}\n\t}\n"+
		"\thandle /hedge {\n\t\tbreaker_proxy "+strings.TrimPrefix(slow.URL, "http://")+" "+up+" {\n\t\t\tlb_policy first\n\t\t\thedge 10ms\n\t\t}\n\t}\n}\n")
	for i, c := range []struct{ path, firstError string }{{"/retry", "connection_dial"}, {"/hedge", "canceled"}} {
		if status, _ := get(t, "http://"+addr+c.path, nil); status != 200 {
			t.Errorf("%s: status %d", c.path, status)
		}
		spans := to.WaitSpans(t, 3*(i+1))[3*i:]
		in := kind(spans, server)
		out := kind(spans, client)
		if len(in) != 1 || len(out) != 2 {
			t.Fatalf("%s: %d server spans and %d client spans, want 1 and 2", c.path, len(in), len(out))
		}
		for _, s := range out {
			resent, failed := attr(s.Attributes, "http.request.resend_count"), attr(s.Attributes, "error.type")
			if first := resent == ""; first && failed != c.firstError || !first && (resent != "1" || failed != "") {
				t.Errorf("%s: an attempt with resend_count %q has error.type %q", c.path, resent, failed)
			}
			if string(s.ParentSpanId) != string(in[0].SpanId) {
				t.Errorf("%s: an attempt is no child of the request", c.path)
			}
		}
	}
}
