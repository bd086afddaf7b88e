// Package gateway runs a Caddyfile in the test's own process, on loopback and
// without the admin API. Caddy keeps one configuration per process, so tests
// that use it do not run in parallel.
package gateway

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/sallyport-gateway/sallyport/test/port"

	// The directives of the Caddyfiles under test.
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// Addr returns a loopback address that nobody listens on.
func Addr(t testing.TB) string {
	t.Helper()
	return port.Addr(t)
}

// Run loads caddyfile and unloads it when the test ends. A second call is a
// reload.
func Run(t testing.TB, caddyfile string) {
	t.Helper()
	if err := Load(t, caddyfile); err != nil {
		t.Fatalf("load: %v\n%s", err, caddyfile)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

// Load loads caddyfile and says why it was refused, if it was.
func Load(t testing.TB, caddyfile string) error {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	config["admin"] = map[string]any{"disabled": true, "config": map[string]any{"persist": false}}
	if config["logging"] == nil {
		config["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "PANIC"}}}
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return caddy.Load(text, true)
}
