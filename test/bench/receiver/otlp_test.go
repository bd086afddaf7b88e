// Package receiver holds the audit's otlp sink against the receiver of the
// OpenTelemetry collector itself. It is a module of its own, so that the
// collector stays out of the gateway's requirements.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/audit/otlp"
	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

// pipeline is what stands behind the receiver: it keeps what it takes, and
// fails as told.
type pipeline struct {
	fail error
	got  []string
}

func (p *pipeline) take(_ context.Context, l plog.Logs) error {
	if p.fail != nil {
		return p.fail
	}
	for _, res := range l.ResourceLogs().All() {
		node, _ := res.Resource().Attributes().Get("service.instance.id")
		for _, scope := range res.ScopeLogs().All() {
			for _, rec := range scope.LogRecords().All() {
				epoch, _ := rec.Attributes().Get("sallyport.audit.epoch")
				seq, _ := rec.Attributes().Get("sallyport.audit.seq")
				p.got = append(p.got, fmt.Sprintf("%s %s/%s/%s %s %s", rec.Timestamp().AsTime().Format(time.RFC3339Nano), node.Str(), epoch.Str(), seq.Str(), rec.EventName(), rec.Body().Str()))
			}
		}
	}
	return nil
}

func start(t *testing.T, p *pipeline) (url string) {
	t.Helper()
	port, err := stage.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	f := otlpreceiver.NewFactory()
	cfg := f.CreateDefaultConfig().(*otlpreceiver.Config)
	http := *cfg.Protocols.HTTP.GetOrInsertDefault()
	http.ServerConfig.NetAddr = confignet.AddrConfig{Endpoint: "127.0.0.1:" + port, Transport: confignet.TransportTypeTCP}
	cfg.Protocols.HTTP = configoptional.Some(http)
	next, err := consumer.NewLogs(p.take)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.CreateLogs(t.Context(), receivertest.NewNopSettings(f.Type()), cfg, next)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return "http://127.0.0.1:" + port
}

func TestCollectorsReceiver(t *testing.T) {
	p := new(pipeline)
	s := &otlp.Sink{Web: audit.Web{URL: start(t, p)}}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	batch := audit.Batch{Node: "gw-1"}
	for n := range uint64(500) {
		batch.Events = append(batch.Events, audit.Event{Mark: spool.Mark{Epoch: 7, Seq: n + 1}, Time: time.Unix(1767225600, 0), Type: "sallyport.auth.refused", JSON: fmt.Appendf(nil, `{"seq":"%d"}`, n+1)})
	}
	if err := s.Deliver(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if want := `2026-01-01T00:00:00Z gw-1/7/500 sallyport.auth.refused {"seq":"500"}`; len(p.got) != 500 || p.got[499] != want {
		t.Errorf("the collector has %d records, the last %s; want 500 and %s", len(p.got), p.got[len(p.got)-1], want)
	}

	// What the collector's pipeline says decides what becomes of the batch.
	for _, c := range []struct {
		name string
		fail error
		want audit.Verdict
	}{
		{"busy", errors.New("queue is full"), audit.Again},
		// The receiver says 500, which OTLP calls final and which a crash behind
		// it says too: no reason to give up an event.
		{"refused for good", consumererror.NewPermanent(errors.New("no")), audit.Again},
	} {
		p.fail = c.fail
		err := s.Deliver(t.Context(), batch)
		f, ok := errors.AsType[*audit.Fault](err)
		if !ok || f.Verdict != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	p.fail = nil
	if err := s.Deliver(t.Context(), batch); err != nil || len(p.got) != 1000 || !strings.HasSuffix(p.got[999], `{"seq":"500"}`) {
		t.Errorf("after that: %v, %d records", err, len(p.got))
	}
}
