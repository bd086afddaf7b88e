package telemetry_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	common "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
	"github.com/sallyport-gateway/sallyport/modules/telemetry"
	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"

	_ "github.com/sallyport-gateway/sallyport/modules/health"
	_ "github.com/sallyport-gateway/sallyport/modules/ratelimit"
)

// Each metric of the semantic conventions arrives under its name, with its
// unit and attributes, and is on /metrics as Prometheus spells it.
func TestConventionalNames(t *testing.T) {
	telemetry.ForgetServices()
	to, addr, ops, up := collector.Start(t), gateway.Addr(t), gateway.Addr(t), upstream(t)
	redis := redistest.Start(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP, "OTEL_METRIC_EXPORT_INTERVAL", "30")
	gateway.Run(t, "{\n\tauto_https off\n\tredis redis://"+redis.Addr+"\n\tservers :"+strings.Split(addr, ":")[1]+" {\n\t\tprotocols h1 h2c\n\t}\n}\nhttp://"+ops+" {\n\thealth\n\tmetrics /metrics\n}\n"+
		"http://"+addr+" {\n\ttelemetry\n\thandle /conv/* {\n\t\trate_limit {\n\t\t\tzone conv {\n\t\t\t\tkey all\n\t\t\t\trate 1000/1s\n\t\t\t\tmode strict\n\t\t\t}\n\t\t}\n\t\tbreaker_proxy "+up+"\n\t}\n\thandle /conv.Service/* {\n\t\tbreaker_proxy h2c://"+up+"\n\t}\n}\n")
	get(t, "http://"+addr+"/conv/1", nil)
	get(t, "http://"+ops+"/health/ready", nil)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2c := &http.Transport{Protocols: &protocols}
	defer h2c.CloseIdleConnections()
	r, _ := http.NewRequest(http.MethodPost, "http://"+addr+"/conv.Service/Do", strings.NewReader("\x00\x00\x00\x00\x00"))
	r.Header.Set("Content-Type", "application/grpc")
	res, err := h2c.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()

	host, port, _ := strings.Cut(up, ":")
	for _, c := range []struct{ name, prometheus, attributes string }{
		{
			"http.server.request.duration", `http_server_request_duration_seconds_count{error_type="",http_request_method="GET",http_response_status_code="200",http_route="/conv/*",sallyport_class="proxied",sallyport_route="127.0.0.1/conv/*",url_scheme="http"}`,
			"http.request.method=GET http.response.status_code=200 http.route=/conv/* sallyport.class=proxied sallyport.route=127.0.0.1/conv/* url.scheme=http",
		},
		{
			"http.client.request.duration", `http_client_request_duration_seconds_count{error_type="",http_request_method="GET",http_response_status_code="200",server_address="` + host + `",server_port="` + port + `"}`,
			"http.request.method=GET http.response.status_code=200 server.address=" + host + " server.port=" + port,
		},
		{
			"rpc.server.call.duration", `rpc_server_call_duration_seconds_count{error_type="",rpc_response_status_code="OK",rpc_service="conv.Service",rpc_system_name="grpc"}`,
			"rpc.response.status_code=OK rpc.service=conv.Service rpc.system.name=grpc",
		},
		{
			"db.client.operation.duration", `db_client_operation_duration_seconds_count{client="default",db_operation_name="pipeline",db_system_name="redis",outcome="ok"}`,
			"client=default db.operation.name=pipeline db.system.name=redis outcome=ok",
		},
	} {
		to.Wait(t, c.name+" with "+c.attributes, func() bool {
			m := to.Metrics()[c.name]
			for _, p := range m.GetHistogram().GetDataPoints() {
				if m.Unit == "s" && p.Count > 0 && p.GetSum() > 0 && spell(p.Attributes) == c.attributes {
					return true
				}
			}
			return false
		})
		if len(series(scrape(t, ops), c.prometheus)) != 1 {
			t.Errorf("%s is not on /metrics, but\n%s", c.prometheus, strings.Join(series(scrape(t, ops), c.prometheus[:20]), "\n"))
		}
	}
	for _, name := range []string{"sallyport_dependency_up", "sallyport_build_info"} {
		if to.Metrics()[name] == nil || len(series(scrape(t, ops), name)) == 0 {
			t.Errorf("%s is missing on one of the ways", name)
		}
	}
}

// spell writes attributes in the order of their names.
func spell(attrs []*common.KeyValue) string {
	var words []string
	for _, a := range attrs {
		words = append(words, a.Key+"="+attr(attrs, a.Key))
	}
	return strings.Join(words, " ")
}

// An upstream that invents status codes, and a registry that moves it about,
// do not grow the series for ever.
func TestUpstreamsDoNotGrowTheSeries(t *testing.T) {
	addr := gateway.Addr(t)
	code := 0
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200 + code)
	}))
	defer odd.Close()
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\thandle /metrics {\n\t\tmetrics\n\t}\n\thandle /odd {\n\t\tbreaker_proxy "+strings.TrimPrefix(odd.URL, "http://")+"\n\t}\n}\n")
	for code = range 99 {
		if code == 4 || code == 5 {
			continue // 204 and 205 have no body, which is no matter here
		}
		get(t, "http://"+addr+"/odd", nil)
	}
	text := scrape(t, addr)
	if n := len(series(text, `http_server_request_duration_seconds_count{error_type="",http_request_method="GET",http_response_status_code="2`)); n < 10 || n > 60 {
		t.Errorf("97 status codes grew %d series", n)
	}
	line := fmt.Sprintf(`sallyport_http_request_duration_seconds_count{class="proxied",method="GET",route=%q,status="2xx"} 97`, "127.0.0.1/odd")
	if len(series(text, line)) != 1 {
		t.Errorf("no line %s, but\n%s", line, strings.Join(series(text, "sallyport_http_request_duration_seconds_count"), "\n"))
	}
}
