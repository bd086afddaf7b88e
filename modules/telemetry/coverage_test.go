package telemetry_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

func covered(t *testing.T, addr, signals string) int {
	t.Helper()
	prefix := `sallyport_coverage_requests_total{signals="` + signals + `"} `
	lines := series(scrape(t, addr), prefix)
	if len(lines) != 1 {
		t.Fatalf("there are %d series %s", len(lines), prefix)
	}
	n, err := strconv.Atoi(strings.TrimPrefix(lines[0], prefix))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// With telemetry and audit on, every request that reaches a configured route
// carries both signals; one without a route counts in neither.
func TestCoverage(t *testing.T) {
	to, addr, ops, up := collector.Start(t), gateway.Addr(t), gateway.Addr(t), upstream(t)
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	gateway.Run(t, "{\n\tauto_https off\n\taudit {\n\t\tsink file "+filepath.Join(t.TempDir(), "audit.ndjson")+"\n\t}\n}\nhttp://"+ops+" {\n\tmetrics /metrics\n}\nhttp://"+addr+
		" {\n\ttelemetry\n\t@told path /told/* /dead/*\n\taudit @told\n\tproblem\n\thandle /told/* {\n\t\tbreaker_proxy "+up+"\n\t}\n\thandle /dead/* {\n\t\tbreaker_proxy "+gateway.Addr(t)+"\n\t}\n\thandle /untold {\n\t\trespond ok\n\t}\n}\n")
	both, trace := covered(t, ops, "both"), covered(t, ops, "trace")
	for range 100 {
		get(t, "http://"+addr+"/told/1", nil)
	}
	for range 3 {
		get(t, "http://"+addr+"/dead/1", nil)
	}
	get(t, "http://"+addr+"/untold", nil)
	get(t, "http://"+addr+"/nowhere", nil)
	if got := covered(t, ops, "both") - both; got != 103 {
		t.Errorf("%d requests carry both signals, want 103", got)
	}
	if got := covered(t, ops, "trace") - trace; got != 1 {
		t.Errorf("%d requests carry a trace alone, want 1", got)
	}
}
