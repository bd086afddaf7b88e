package telemetry_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/telemetry"
	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

func scrape(t testing.TB, addr string) string {
	t.Helper()
	_, body := get(t, "http://"+addr+"/metrics", nil)
	return body
}

// series returns the lines of /metrics that begin with prefix.
func series(text, prefix string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, prefix) {
			out = append(out, line)
		}
	}
	return out
}

func TestRoutesNameTheSeries(t *testing.T) {
	addr, ops, up := gateway.Addr(t), gateway.Addr(t), upstream(t)
	_, port, _ := strings.Cut(addr, ":")
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+ops+" {\n\tmetrics /metrics\n}\nhttp://api.test:"+port+" {\n\tbind 127.0.0.1\n\ttelemetry\n"+
		"\theader /orders/* X-Note guards-with-a-path-do-not-name-a-route\n"+
		"\thandle /orders/* {\n\t\treverse_proxy "+up+"\n\t}\n"+
		"\thandle_path /api/* {\n\t\thandle /users/* {\n\t\t\tbreaker_proxy "+up+"\n\t\t}\n\t\thandle {\n\t\t\trespond api\n\t\t}\n\t}\n"+
		"\thandle /named {\n\t\ttelemetry checkout\n\t\trespond named\n\t}\n"+
		"\t@put {\n\t\tmethod PUT\n\t\tpath /things/*\n\t}\n\thandle @put {\n\t\trespond put\n\t}\n"+
		"\thandle /things/* {\n\t\trespond thing 404\n\t}\n"+
		"\trespond /exact ok\n}\n")
	for _, c := range []struct{ method, path, route, class, status string }{
		{"GET", "/orders/1", "api.test/orders/*", "proxied", "2xx"},
		{"GET", "/ORDERS/2", "api.test/orders/*", "proxied", "2xx"},
		{"GET", "/api/users/7", "api.test/api/users/*", "proxied", "2xx"},
		{"GET", "/api/other", "api.test/api/*", "light", "2xx"},
		{"GET", "/named", "checkout", "light", "2xx"},
		{"GET", "/things/1", "api.test/things/*", "light", "4xx"},
		{"PUT", "/things/1", "api.test/things/*", "light", "2xx"},
		{"BREW", "/exact", "api.test/exact", "light", "2xx"},
		{"GET", "/exact/not", "unmatched", "light", "2xx"},
	} {
		method := c.method
		if method == "BREW" {
			method = "_OTHER"
		}
		line := fmt.Sprintf(`sallyport_http_request_duration_seconds_count{class=%q,method=%q,route=%q,status=%q} `, c.class, method, c.route, c.status)
		before := strings.Join(series(scrape(t, ops), line), "")
		r, _ := http.NewRequest(c.method, "http://"+addr+c.path, nil)
		r.Host = "api.test"
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		text := scrape(t, ops)
		after := strings.Join(series(text, line), "")
		if after == "" || after == before {
			t.Errorf("%s %s did not count in %s\nbut there is\n%s", c.method, c.path, line,
				strings.Join(series(text, "sallyport_http_request_duration_seconds_count"), "\n"))
		}
	}
}

func TestEdgesHoldTheObjectives(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\tmetrics /metrics\n}\n")
	get(t, "http://"+addr+"/x", nil)
	text := scrape(t, addr)
	for _, edge := range []string{"0.05", "0.15", "0.2", "0.3"} {
		if !strings.Contains(text, `le="`+edge+`"`) {
			t.Errorf("no edge at %s", edge)
		}
	}
}

// A scanner invents paths, methods and service names; the series stay few.
func TestScansDoNotGrowTheSeries(t *testing.T) {
	telemetry.ForgetServices()
	addr, up := gateway.Addr(t), upstream(t)
	gateway.Run(t, "{\n\tauto_https off\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\nhttp://"+addr+" {\n\ttelemetry\n\thandle /metrics {\n\t\tmetrics\n\t}\n\thandle {\n\t\tbreaker_proxy h2c://"+up+"\n\t}\n}\n")
	scrape(t, addr)
	get(t, "http://"+addr+"/first", nil)
	before := len(series(scrape(t, addr), "sallyport_http"))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2c := &http.Transport{Protocols: &protocols}
	defer h2c.CloseIdleConnections()
	for i := range 400 {
		r, _ := http.NewRequest(http.MethodPost, fmt.Sprintf("http://%s/scan.v%d.Service/Method%d", addr, i, i), strings.NewReader("\x00\x00\x00\x00\x00"))
		r.Header.Set("Content-Type", "application/grpc")
		if i%2 == 0 {
			r.Method = fmt.Sprintf("SCAN%d", i)
		}
		res, err := h2c.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	text := scrape(t, addr)
	// POST and _OTHER, each with its buckets, sum and count.
	if grown := len(series(text, "sallyport_http")) - before; grown > 80 {
		t.Errorf("a scan of 400 paths grew %d series", grown)
	}
	// The upstream answers for every name, and yet only the first 100 are told apart.
	if n := len(series(text, "sallyport_grpc_requests_total")); n < 50 || n > 101 {
		t.Errorf("a scan of 400 services grew %d series, want up to 100 and _other", n)
	}
	if strings.Contains(text, "scan.v399") || strings.Contains(text, "SCAN398") {
		t.Error("a name from the end of the scan is a label")
	}
}

func TestMetricsGoBothWays(t *testing.T) {
	to, addr := collector.Start(t), gateway.Addr(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP, "OTEL_METRIC_EXPORT_INTERVAL", "30")
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\thandle /metrics {\n\t\tmetrics\n\t}\n\thandle /both {\n\t\trespond ok\n\t}\n}\n")
	get(t, "http://"+addr+"/both", nil)
	to.Wait(t, "the request's histogram with an exemplar", func() bool {
		m := to.Metrics()["sallyport_http_request_duration_seconds"]
		for _, p := range m.GetHistogram().GetDataPoints() {
			if attr(p.Attributes, "route") == "127.0.0.1/both" && p.Count == 1 {
				return len(p.Exemplars) == 1 && len(p.Exemplars[0].TraceId) == 16
			}
		}
		return false
	})
	scraped := scrape(t, addr)
	for name := range to.Metrics() {
		if strings.HasPrefix(name, "sallyport_") && !strings.Contains(scraped, name) {
			t.Errorf("%s is exported and not on /metrics", name)
		}
	}
	for _, name := range []string{"sallyport_build_info", "sallyport_coverage_requests_total", "sallyport_telemetry_delivered_total"} {
		if to.Metrics()[name] == nil || !strings.Contains(scraped, name) {
			t.Errorf("%s is missing on one of the ways", name)
		}
	}
}

// The export goes on over a reload that does not change it, and what the old
// configuration still has to tell is told.
func TestReloadLosesNoSpan(t *testing.T) {
	to, addr := collector.Start(t), gateway.Addr(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	const requests, reloads = 300, 5
	config := func(i int) string {
		global := "\tauto_https off\n"
		if i%2 == 1 { // every other one changes the export itself
			global += "\ttelemetry {\n\t\tattribute generation two\n\t}\n"
		}
		return "{\n" + global + "}\nhttp://" + addr + " {\n\ttelemetry\n\trespond \"ok " + fmt.Sprint(i) + "\"\n}\n"
	}
	gateway.Run(t, config(0))
	done := make(chan int)
	go func() {
		ok := 0
		for range requests {
			if res, err := http.Get("http://" + addr + "/x"); err == nil {
				res.Body.Close()
				ok++
			}
		}
		done <- ok
	}()
	for i := range reloads {
		if err := gateway.Load(t, config(i+1)); err != nil {
			t.Error(err)
		}
	}
	ok := <-done
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := len(kind(to.Spans(), server)); got < ok {
		t.Errorf("%d requests were answered and %d spans arrived", ok, got)
	}
}

func TestDeadCollectorCostsNothingButDrops(t *testing.T) {
	addr := gateway.Addr(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+gateway.Addr(t), "OTEL_BSP_MAX_QUEUE_SIZE", "50")
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\thandle /metrics {\n\t\tmetrics\n\t}\n\thandle {\n\t\trespond ok\n\t}\n}\n")
	for range 300 {
		if status, _ := get(t, "http://"+addr+"/x", nil); status != 200 {
			t.Fatalf("got status %d", status)
		}
	}
	// Which reason depends on whether the exporter still tries or has given up.
	lost := 0
	for _, line := range series(scrape(t, addr), "sallyport_telemetry_dropped_total{") {
		if !strings.HasSuffix(line, " 0") {
			lost++
		}
	}
	if lost == 0 {
		t.Error("the drops are not counted")
	}
}

func TestSwitches(t *testing.T) {
	for _, c := range []struct {
		name  string
		env   []string
		block string
		want  bool
	}{
		{"nothing said", nil, "", false},
		{"enabled", []string{"ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", "%"}, "", true},
		{"block alone", nil, "endpoint %", true},
		{"block wins", []string{"ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"}, "endpoint %", true},
		{"disabled whatever the block says", []string{"ENABLE_TELEMETRY", "false"}, "endpoint %", false},
		{"sdk disabled", []string{"ENABLE_TELEMETRY", "true", "OTEL_SDK_DISABLED", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", "%"}, "", false},
		{"no traces", []string{"ENABLE_TELEMETRY", "true", "OTEL_TRACES_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", "%"}, "", false},
		{"not sampled", []string{"ENABLE_TELEMETRY", "true", "OTEL_TRACES_SAMPLER", "always_off", "OTEL_EXPORTER_OTLP_ENDPOINT", "%"}, "", false},
		{"endpoint of the signal", []string{"ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "%/v1/traces"}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			to, addr := collector.Start(t), gateway.Addr(t)
			for i := range c.env {
				c.env[i] = strings.ReplaceAll(c.env[i], "%", to.HTTP)
			}
			environment(t, c.env...)
			global := ""
			if c.block != "" {
				global = "\ttelemetry {\n\t\t" + strings.ReplaceAll(c.block, "%", to.HTTP) + "\n\t}\n"
			}
			gateway.Run(t, "{\n\tauto_https off\n"+global+"}\nhttp://"+addr+" {\n\ttelemetry\n\trespond ok\n}\n")
			if status, _ := get(t, "http://"+addr+"/x", nil); status != 200 {
				t.Fatalf("got status %d", status)
			}
			if err := caddy.Stop(); err != nil { // sends what waits
				t.Fatal(err)
			}
			if got := len(to.Spans()) > 0; got != c.want {
				t.Errorf("spans arrived: %t, want %t", got, c.want)
			}
		})
	}
}
