package breaker

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

type subscriber chan caddy.Event

func (s subscriber) Handle(_ context.Context, e caddy.Event) error {
	s <- e
	return nil
}

// running provisions one handler with its app as a configuration would, and
// subscribes to its events.
func running(t *testing.T, config string) (*Handler, subscriber) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	events, err := ctx.App("events")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(subscriber, newsMax)
	if err := events.(*caddyevents.App).On(eventName, heard); err != nil {
		t.Fatal(err)
	}
	mod, err := ctx.LoadModuleByID("http.handlers.breaker", json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	h := mod.(*Handler)
	t.Cleanup(func() { _ = h.Cleanup() })
	if err := h.app.Start(); err != nil {
		t.Fatal(err)
	}
	return h, heard
}

func TestTransitionsAreToldByTheNewestConfiguration(t *testing.T) {
	addr := deadAddr(t)
	config := `{"policy":{"name":"told","mode":"shadow"},"proxy":` + proxyTo(addr) + `}`
	older, heardByOlder := running(t, config)
	newer, heard := running(t, config)

	facts := make(chan exchange.Fact, 10)
	defer exchange.Listen("test", func(f exchange.Fact) {
		if f.Attrs[0].Value.String() == "told" {
			facts <- f
		}
	})()
	next := func(s subscriber) map[string]any {
		for {
			if e := <-s; e.Data["breaker"] == "told" { // other tests' circuits speak here too
				return e.Data
			}
		}
	}

	// The older configuration's request causes it; the newer one tells.
	older.fixed[0].Force(time.Now(), circuit.ForcedOpen, time.Hour, "maintenance")
	got := next(heard)
	for name, want := range map[string]any{
		"upstream": addr, "from": "closed", "to": "forced_open", "reason": "forced", "note": "maintenance", "mode": "shadow",
	} {
		if got[name] != want {
			t.Errorf("the event says %s is %v, want %v", name, got[name], want)
		}
	}
	if f := <-facts; f.Kind != exchange.CircuitChanged || f.Code != "forced_open" {
		t.Errorf("the fact is %s %s", f.Kind, f.Code)
	}
	for len(heardByOlder) > 0 {
		if e := <-heardByOlder; e.Data["breaker"] == "told" {
			t.Errorf("the older configuration told %v as well", e.Data)
		}
	}

	if err := newer.app.Stop(); err != nil {
		t.Fatal(err)
	}
	older.fixed[0].Reset(time.Now(), "done")
	if got := next(heardByOlder); got["to"] != "closed" {
		t.Errorf("after the newer one is gone the event says %v", got)
	}
	if err := older.app.Stop(); err != nil {
		t.Fatal(err)
	}
	if news.stop != nil {
		t.Error("the desk's goroutine outlives the last configuration")
	}
}

// TestAForcedCircuitNamesItsOrder, by which the audit trail finds who gave it.
func TestAForcedCircuitNamesItsOrder(t *testing.T) {
	h, _ := running(t, `{"policy":{"name":"ordered"},"proxy":`+proxyTo(deadAddr(t))+`}`)
	defer h.app.Stop()
	facts := make(chan exchange.Fact, 10)
	defer exchange.Listen("test", func(f exchange.Fact) {
		if f.Kind == exchange.CircuitChanged && f.Attrs[0].Value.String() == "ordered" {
			facts <- f
		}
	})()
	for _, c := range []struct{ action, ttl, mark, want string }{
		{"force_open", "1m", "mark-1", "mark-1"},
		{"reset", "", "mark-2", "mark-2"},
		{"force_open", "1m", "", ""},
	} {
		o := order{Breaker: "ordered", Action: c.action, TTL: c.ttl, Reason: "drill"}
		if _, err := o.carryOut(time.Now(), c.mark); err != nil {
			t.Fatal(err)
		}
		if f := <-facts; f.Order != c.want {
			t.Errorf("%s is told by the order '%s', want '%s'", c.action, f.Order, c.want)
		}
	}
	h.fixed[0].Reset(time.Now(), "by nobody")
	if f := <-facts; f.Order != "" {
		t.Errorf("what nobody ordered is told by the order '%s'", f.Order)
	}
}

func TestTransitionsNeverWait(t *testing.T) {
	h := build(t, `{"policy":{"name":"%s"},"proxy":`+proxyTo(deadAddr(t))+`}`)
	// No configuration is running: nobody takes them.
	for range newsMax + 100 {
		h.fixed[0].Reset(time.Now(), "again")
	}
	for len(news.waiting) > 0 {
		<-news.waiting
	}
}
