package ratelimit

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/sallyport-gateway/sallyport/test/port"
)

func init() {
	caddy.RegisterModule(new(recorder))
}

// recorder is an events handler that keeps what it is told.
type recorder struct{}

var recorded = make(chan caddy.Event, 100)

func (recorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.recorder", New: func() caddy.Module { return new(recorder) }}
}

func (recorder) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (recorder) Handle(_ context.Context, e caddy.Event) error {
	recorded <- e
	return nil
}

// live runs a Caddyfile, with its redis option and its rate_limit, and returns
// the handler that serves, and its log.
func live(t *testing.T, redis, limit string) (h *Handler, log func() string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	text := `{
		admin off
		persist_config off
		grace_period 1s
		storage file_system ` + t.TempDir() + `
		log {
			output file ` + file + `
			format json
		}
		events {
			on ` + storeChanged + ` recorder
		}
		` + redis + `
	}
	http://` + port.Addr(t) + ` {
		` + limit + `
	}`
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("adapt: %v\n%s", err, text)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		if h = handlerIn(server.Routes); h != nil {
			break
		}
	}
	if h == nil || h.ledger == nil {
		t.Fatalf("there is no rate_limit with Redis in\n%s", config)
	}
	<-h.ledger.Asked()
	waitFor(t, func() bool { return h.ledger.Secret() != nil })
	return h, func() string {
		text, err := os.ReadFile(file)
		must(t, err)
		return string(text)
	}
}

func handlerIn(routes caddyhttp.RouteList) *Handler {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *Handler:
				return h
			case *caddyhttp.Subroute:
				if found := handlerIn(h.Routes); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

// printedACL reads the rules of the Redis user from the page.
func printedACL(t *testing.T) (rules []any) {
	t.Helper()
	page, err := os.ReadFile("../../docs/modules/rate_limit.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(page), "user gateway on >password ")
	line, _, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatal("the page prints no Redis user")
	}
	for _, rule := range strings.Fields(line) {
		rules = append(rules, rule)
	}
	return rules
}
