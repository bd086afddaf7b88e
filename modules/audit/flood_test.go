package audit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// 50,000 refusals a second from one client and from ever new ones leave a few
// thousand events behind, and each of them is in a sum.
func TestFloodIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		d, a := testDesk(&sinkEntry{name: "s", sink: s})
		a.MaxBytes = 64 << 20
		a.Coalesce.First, a.Coalesce.Window = 10, caddy.Duration(10*time.Second)
		if _, err := d.attach(a); err != nil {
			t.Fatal(err)
		}
		told, seconds := 0, 4
		r := prepared()
		exchange.Of(r).Refusal.Code = "quota-exceeded"
		for range seconds {
			for n := range 50_000 {
				client := "203.0.113.1"
				if n%10 == 0 {
					client = fmt.Sprintf("10.%d.%d.%d", told>>16, told>>8&255, told&255)
				}
				caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, client)
				a.hear(exchange.Fact{Kind: exchange.LimitRefused, Code: "quota-exceeded", Time: time.Now(), Request: r})
				told++
			}
			time.Sleep(time.Second)
		}
		time.Sleep(30 * time.Second) // the windows end and are summed up
		written := int(d.journal.Stats().Last.Seq)
		if limit := 2 * 16 * floodsPerShard; written > limit || written < 1000 {
			t.Errorf("%d refusals left %d events, want 1000 to %d", told, written, limit)
		}
		if len(s.seqs()) != written {
			t.Errorf("the sink has %d events of %d", len(s.seqs()), written)
		}
		if d.lostSince.Load() != 0 {
			t.Error("events were dropped")
		}
		d.detach(a, time.Second)
		if err := d.Destruct(); err != nil {
			t.Error(err)
		}
	})
}
