package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

func TestDeliver(t *testing.T) {
	server := redistest.Start(t)
	cfg := &caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{"sallyport_redis": []byte(`{"clients":{"default":{"url":"redis://` + server.Addr + `"}}}`)},
	}
	ctx, err := caddy.ProvisionContext(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{Stream: "trail"}
	if err := s.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	var b audit.Batch
	for n := range 3 {
		b.Events = append(b.Events, audit.Event{Mark: spool.Mark{Epoch: 1, Seq: uint64(n + 1)}, Time: time.Now(), Type: "sallyport.test", JSON: []byte{'{', byte('0' + n), '}'}})
	}
	if err := s.Deliver(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	var client redis.UniversalClient = s.client.Redis()
	entries, err := client.XRange(t.Context(), "trail", "-", "+").Result()
	if err != nil || len(entries) != 3 || entries[2].Values["event"] != "{2}" || entries[2].Values["type"] != "sallyport.test" {
		t.Errorf("the stream has %v, %v", entries, err)
	}
	// A key of another type is a matter of configuration, not of the moment.
	if err := client.Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Stream = "text"
	if f, ok := errors.AsType[*audit.Fault](s.Deliver(t.Context(), b)); !ok || f.Verdict != audit.Denied {
		t.Errorf("a stream that is none: %v", f)
	}
	server.Stop()
	if err := s.Deliver(t.Context(), b); err == nil {
		t.Error("a batch is delivered to a server that is gone")
	}
}
