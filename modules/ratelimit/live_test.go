package ratelimit

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
	running "github.com/sallyport-gateway/sallyport/test/gateway"
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
// the handler that serves, and its log. It is patient: a busy machine is no outage.
func live(t *testing.T, redis, limit string) (h *Handler, log func() string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	text := `{
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
	running.Run(t, text)
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
		t.Fatalf("there is no rate_limit with Redis in\n%s", text)
	}
	h.patience = 10 * time.Second
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

// overCluster runs a limit of 10/1h for each host in a cluster, and returns when
// Redis decides.
func overCluster(t *testing.T, cluster *redistest.Cluster, mode string) (h *Handler, log func() string) {
	t.Helper()
	h, log = live(t, cluster.Option(), `rate_limit {
		zone `+zoneName(t)+` {
			key {http.request.host}
			rate 10/1h
			mode `+mode+`
		}
		gateways 1
	}`)
	waitFor(t, func() bool { return admissions{}.ask(t, h, "first.example") == "redis" })
	return h, log
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
