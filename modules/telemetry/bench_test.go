package telemetry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// sink takes exports as fast as they come, so that its own work does not
// count much: it runs in the benchmark's process.
func sink(b *testing.B) string {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	b.Cleanup(s.Close)
	return s.URL
}

// processorTime is what all threads have used, the exporter's among them.
func processorTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkRequest is one request through Caddy's server and one site, without
// a socket in front. Compare the cpu-ns/op of two lines: the difference is what
// seeing costs, the export included.
func BenchmarkRequest(b *testing.B) {
	up := upstream(b)
	const light = "\trespond ok\n"
	proxied := "\tbreaker_proxy " + up + "\n"
	stock := "\treverse_proxy " + up + "\n"
	for _, c := range []struct {
		name, global, site string
		export             bool
	}{
		{"light/bare", "", light, false},
		{"light/metrics", "", "\ttelemetry\n" + light, false},
		{"light/telemetry", "", "\ttelemetry\n" + light, true},
		{"light/stock_metrics", "\tmetrics\n", light, false},
		{"light/stock_tracing", "\tmetrics\n", "\ttracing\n" + light, true},
		{"proxied/bare", "", proxied, false},
		{"proxied/metrics", "", "\ttelemetry\n" + proxied, false},
		{"proxied/telemetry", "", "\ttelemetry\n" + proxied, true},
		{"proxied/stock_bare", "", stock, false},
		{"proxied/stock_tracing", "\tmetrics\n", "\ttracing\n" + stock, true},
		{"proxied/telemetry_stock_proxy", "", "\ttelemetry\n" + stock, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.export {
				b.Setenv("ENABLE_TELEMETRY", "true")
			}
			to := sink(b)
			b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to)
			b.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "200000") // a drop would flatter
			b.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
			addr := gateway.Addr(b)
			gateway.Run(b, "{\n\tauto_https off\n"+c.global+"}\nhttp://"+addr+" {\n"+c.site+"}\n")
			app, err := caddy.ActiveContext().AppIfConfigured("http")
			if err != nil {
				b.Fatal(err)
			}
			server := app.(*caddyhttp.App).Servers["srv0"]
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				r := httptest.NewRequest(http.MethodGet, "http://"+addr+"/orders/1", nil)
				r.Host = addr
				w := httptest.NewRecorder()
				server.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatalf("status %d", w.Code)
				}
			}
			b.StopTimer()
			if err := caddy.Stop(); err != nil { // sends what still waits
				b.Fatal(err)
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
