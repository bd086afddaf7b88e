package standard

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// TestHandlersBringAuditIn holds that the environment alone switches audit on
// with any handler of ours, also where the admin endpoint is off. That the
// start is refused for want of a sink shows that audit has been asked.
func TestHandlersBringAuditIn(t *testing.T) {
	for name, handler := range map[string]string{
		"health":        "health",
		"telemetry":     "telemetry",
		"problem":       "problem",
		"jwt":           "jwt main",
		"rate_limit":    "rate_limit {\n\t\tzone all {\n\t\t\tkey static\n\t\t\trate 1/1h\n\t\t}\n\t}",
		"cache":         "cache",
		"breaker_proxy": "breaker_proxy 127.0.0.1:1",
		"audit":         "audit",
		"admin_api":     "admin_api",
	} {
		t.Run(name, func(t *testing.T) {
			file := "{\n\tissuer main {\n\t\tissuer https://idp.example.com/\n\t\tjwks https://idp.example.com/jwks.json\n\t\taudience api\n\t}\n}\nhttp:// {\n\t" + handler + "\n}\n"
			config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(file), map[string]any{"filename": "Caddyfile"})
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("AUDIT_EVENT_SINK_URL", "")
			t.Setenv("ENABLE_AUDIT_EVENTS", "true")
			if err := validate(t, config); err == nil || !strings.Contains(err.Error(), "ENABLE_AUDIT_EVENTS is true, but there is no sink") {
				t.Errorf("validate: %v", err)
			}
			t.Setenv("AUDIT_EVENT_SINK_URL", "https://audit.example.com/events")
			if err := validate(t, config); err != nil {
				t.Errorf("with a sink: %v", err)
			}
		})
	}
}
