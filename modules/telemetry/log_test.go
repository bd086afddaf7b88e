package telemetry_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

func TestAccessLogTellsTheTrace(t *testing.T) {
	to, addr, up := collector.Start(t), gateway.Addr(t), upstream(t)
	file := filepath.Join(t.TempDir(), "access.log")
	environment(t, "ENABLE_TELEMETRY", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\tlog {\n\t\toutput file "+file+"\n\t}\n\ttelemetry\n\tbreaker_proxy /orders/* "+up+"\n}\n")
	get(t, "http://"+addr+"/orders/1", http.Header{"Traceparent": {parent}})
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(strings.TrimSpace(string(text))), &line); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for key, want := range map[string]any{
		"trace_id": parent[3:35], "route": "127.0.0.1/orders/*", "upstream": up, "attempts": 1.0,
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	if id, _ := line["span_id"].(string); len(id) != 16 {
		t.Errorf("span_id is %q", id)
	}
}
