package telemetry_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	_ "github.com/sallyport-gateway/sallyport/modules/breaker"
	_ "github.com/sallyport-gateway/sallyport/modules/reject"
	_ "github.com/sallyport-gateway/sallyport/modules/telemetry"
	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// upstream answers with the trace context it received.
func upstream(t testing.TB) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "0")
			return
		}
		switch r.URL.Path {
		case "/orders/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/orders/cut":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "only this much")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%s|%s", r.Header.Get("Traceparent"), r.Header.Get("Tracestate"))
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func environment(t testing.TB, pairs ...string) {
	t.Helper()
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

func get(t testing.TB, url string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
		if host := header.Get("Host"); host != "" {
			r.Host = host
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body) // one upstream cuts its answer short
	return res.StatusCode, string(body)
}

func attr(attrs []*common.KeyValue, key string) string {
	for _, a := range attrs {
		if a.Key == key {
			if n, ok := a.Value.Value.(*common.AnyValue_IntValue); ok {
				return fmt.Sprint(n.IntValue)
			}
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func kind(spans []*trace.Span, k trace.Span_SpanKind) []*trace.Span {
	var out []*trace.Span
	for _, s := range spans {
		if s.Kind == k {
			out = append(out, s)
		}
	}
	return out
}

const (
	server = trace.Span_SPAN_KIND_SERVER
	client = trace.Span_SPAN_KIND_CLIENT
)

// The environment alone switches the export on; the upstream hears of the span
// of the very attempt that reaches it.
func TestOneTraceThroughTheGateway(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			to, addr, up := collector.Start(t), gateway.Addr(t), upstream(t)
			endpoint := to.HTTP
			if protocol == "grpc" {
				endpoint = to.GRPC
			}
			environment(t, "ENABLE_TELEMETRY", "true", "SERVICE_NAME", "front-door", "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint,
				"OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=s3cr%20t")
			gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\thandle /orders/* {\n\t\tbreaker_proxy "+up+"\n\t}\n}\n")

			status, seen := get(t, "http://"+addr+"/orders/42?token=secret", http.Header{"Traceparent": {parent}, "Tracestate": {"vendor=1"}})
			spans := to.WaitSpans(t, 2)
			if status != 200 || len(spans) != 2 {
				t.Fatalf("got status %d and %d spans, want 200 and 2", status, len(spans))
			}
			in, out := kind(spans, server)[0], kind(spans, client)[0]
			if hex.EncodeToString(in.TraceId) != parent[3:35] || hex.EncodeToString(in.ParentSpanId) != parent[36:52] || in.TraceState != "vendor=1" {
				t.Errorf("the server span does not continue the caller's trace: %v", in)
			}
			if string(out.TraceId) != string(in.TraceId) || string(out.ParentSpanId) != string(in.SpanId) {
				t.Errorf("the client span is no child of the server span: %v", out)
			}
			if want := fmt.Sprintf("00-%x-%x-01|vendor=1", out.TraceId, out.SpanId); seen != want {
				t.Errorf("the upstream saw %q, want %q", seen, want)
			}
			if in.Name != "GET /orders/*" || out.Name != "GET" {
				t.Errorf("the spans are named %q and %q", in.Name, out.Name)
			}
			host, port, _ := strings.Cut(addr, ":")
			for key, want := range map[string]string{
				"http.request.method": "GET", "http.route": "/orders/*", "http.response.status_code": "200", "url.path": "/orders/42",
				"url.scheme": "http", "server.address": host, "server.port": port, "client.address": "127.0.0.1",
				"network.protocol.version": "1.1", "user_agent.original": "Go-http-client/1.1", "error.type": "",
			} {
				if got := attr(in.Attributes, key); got != want {
					t.Errorf("server span: %s is %q, want %q", key, got, want)
				}
			}
			upHost, upPort, _ := strings.Cut(up, ":")
			for key, want := range map[string]string{"server.address": upHost, "server.port": upPort, "http.response.status_code": "200", "http.request.method": "GET"} {
				if got := attr(out.Attributes, key); got != want {
					t.Errorf("client span: %s is %q, want %q", key, got, want)
				}
			}
			if strings.Contains(fmt.Sprint(spans), "secret") {
				t.Error("the query, where tokens are, is in a span")
			}
			if name := attr(to.Resources()[0].Resource.Attributes, "service.name"); name != "front-door" {
				t.Errorf("service.name is %q", name)
			}
			for _, h := range to.Headers() {
				if key := append(h["X-Api-Key"], h["x-api-key"]...); len(key) != 1 || key[0] != "s3cr t" {
					t.Errorf("an export came with key %q", key)
				}
			}
		})
	}
}

func TestWhoseTraceIsContinued(t *testing.T) {
	to, addr, up := collector.Start(t), gateway.Addr(t), upstream(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP, "OTEL_SERVICE_NAME", "wins", "SERVICE_NAME", "loses")
	gateway.Run(t, "{\n\tauto_https off\n\ttelemetry {\n\t\ttrust_traceparent 192.0.2.0/24\n\t}\n}\nhttp://"+addr+" {\n\ttelemetry\n\treverse_proxy "+up+"\n}\n")
	_, seen := get(t, "http://"+addr+"/x", http.Header{"Traceparent": {parent}, "Tracestate": {"evil=1"}, "Baggage": {"user=root"}})
	span := kind(to.WaitSpans(t, 1), server)[0]
	if hex.EncodeToString(span.TraceId) == parent[3:35] || strings.Contains(seen, parent[3:35]) || strings.Contains(seen, "evil") {
		t.Errorf("a stranger's trace goes on: span %x, upstream %q", span.TraceId, seen)
	}
	if len(span.Links) != 1 || hex.EncodeToString(span.Links[0].TraceId) != parent[3:35] {
		t.Errorf("the stranger's trace is not linked: %v", span.Links)
	}
	if want := fmt.Sprintf("00-%x-%x-01|", span.TraceId, span.SpanId); seen != want {
		t.Errorf("behind a stock reverse_proxy the upstream saw %q, want the server span %q", seen, want)
	}
	if name := attr(to.Resources()[0].Resource.Attributes, "service.name"); name != "wins" {
		t.Errorf("service.name is %q", name)
	}
}

func TestFailuresInSpans(t *testing.T) {
	to, addr, up := collector.Start(t), gateway.Addr(t), upstream(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	dead := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\tproblem\n\thandle /orders/* {\n\t\tbreaker_proxy "+up+"\n\t}\n\thandle /dead/* {\n\t\tbreaker_proxy "+dead+"\n\t}\n\thandle /light {\n\t\trespond ok\n\t}\n}\n")
	for _, c := range []struct {
		path, status, serverError, clientError string
		failed                                 bool
	}{
		{"/orders/fine", "200", "", "", false},
		{"/orders/broken", "500", "500", "500", true},
		{"/orders/cut", "200", "aborted", "connection_closed", true},
		{"/dead/x", "502", "502", "connection_dial", true},
		{"/light", "200", "", "none", false},
		{"/nowhere", "200", "", "none", false},
	} {
		before := len(to.Spans())
		r, _ := http.NewRequest(http.MethodGet, "http://"+addr+c.path, nil)
		if res, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		want := before + 2
		if c.clientError == "none" {
			want--
		}
		spans := to.WaitSpans(t, want)[before:]
		in := kind(spans, server)[0]
		if status := attr(in.Attributes, "http.response.status_code"); status != c.status {
			t.Errorf("%s: server span has status %q, want %q", c.path, status, c.status)
		}
		if got := attr(in.Attributes, "error.type"); got != c.serverError {
			t.Errorf("%s: server span has error.type %q, want %q", c.path, got, c.serverError)
		}
		if failed := in.Status.GetCode() == trace.Status_STATUS_CODE_ERROR; failed != c.failed {
			t.Errorf("%s: server span failed is %t, want %t", c.path, failed, c.failed)
		}
		if c.clientError == "none" {
			continue
		}
		out := kind(spans, client)[0]
		if got := attr(out.Attributes, "error.type"); got != c.clientError {
			t.Errorf("%s: client span has error.type %q, want %q: %v", c.path, got, c.clientError, out)
		}
	}
}

// Protobuf takes valid UTF-8 only, and a batch with one crooked text is lost
// whole: a caller must not be able to blind the operator.
func TestCrookedRequestsDoNotCostTheBatch(t *testing.T) {
	to, addr, up := collector.Start(t), gateway.Addr(t), upstream(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\tbreaker_proxy "+up+"\n}\n")
	get(t, "http://"+addr+"/%ff%fe", http.Header{"User-Agent": {"\xff\xfe"}})
	get(t, "http://"+addr+"/straight", nil)
	spans := to.WaitSpans(t, 4)
	if n := len(kind(spans, server)); n != 2 {
		t.Errorf("%d server spans arrived, want 2", n)
	}
}

// A collector that takes connections and never answers must not hold up the exit.
func TestHangingCollectorDoesNotHoldTheExit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := gateway.Addr(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+ln.Addr().String())
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\trespond ok\n}\n")
	if status, _ := get(t, "http://"+addr+"/x", nil); status != 200 {
		t.Fatalf("got status %d", status)
	}
	began := time.Now()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the exit took %s, want about three seconds", took)
	}
}

// Rotated credentials reach the collector without a reload.
func TestHeadersFileIsReadAnew(t *testing.T) {
	to, addr := collector.Start(t), gateway.Addr(t)
	file := filepath.Join(t.TempDir(), "headers")
	write := func(key string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("# collector\nx-api-key="+key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP, "OTEL_EXPORTER_OTLP_HEADERS_FILE", file)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\trespond ok\n}\n")
	for i, key := range []string{"first", "second"} {
		write(key)
		get(t, "http://"+addr+"/x", nil)
		to.WaitSpans(t, i+1)
		headers := to.Headers()
		if got := headers[len(headers)-1]["X-Api-Key"]; len(got) != 1 || got[0] != key {
			t.Errorf("export %d came with key %q, want %q", i, got, key)
		}
	}
}
