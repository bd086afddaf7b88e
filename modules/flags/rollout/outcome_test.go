package rollout

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags"
)

func TestWhatCountsAgainstAVariant(t *testing.T) {
	card := func(fill func(*exchange.Exchange)) *exchange.Exchange {
		x := new(exchange.Exchange)
		fill(x)
		return x
	}
	attempt := func(err error) *exchange.Exchange {
		return card(func(x *exchange.Exchange) { x.Attempts = append(x.Attempts, &exchange.Attempt{Err: err}) })
	}
	plain := func(*exchange.Exchange) {}
	for _, c := range []struct {
		name                  string
		o                     flags.Outcome
		counted, failed, trip bool
	}{
		{"200", flags.Outcome{Status: 200, Exchange: card(plain)}, true, false, false},
		{"404", flags.Outcome{Status: 404, Exchange: card(plain)}, true, false, false},
		{"500", flags.Outcome{Status: 500, Exchange: card(plain)}, true, true, false},
		{"503 of a fallback", flags.Outcome{Status: 503, Exchange: card(func(x *exchange.Exchange) { x.Fallback, x.FallbackReason = "respond", "upstream-error" })}, true, true, false},
		{"gRPC NOT_FOUND", flags.Outcome{Status: 200, GRPC: "5", Exchange: card(plain)}, true, false, false},
		{"gRPC UNAUTHENTICATED", flags.Outcome{Status: 200, GRPC: "16", Exchange: card(plain)}, true, false, false},
		{"gRPC RESOURCE_EXHAUSTED", flags.Outcome{Status: 200, GRPC: "8", Exchange: card(plain)}, true, false, false},
		{"gRPC UNKNOWN", flags.Outcome{Status: 200, GRPC: "2", Exchange: card(plain)}, true, true, false},
		{"gRPC UNAVAILABLE", flags.Outcome{Status: 200, GRPC: "14", Exchange: card(plain)}, true, true, false},
		{"gRPC DATA_LOSS", flags.Outcome{Status: 200, GRPC: "15", Exchange: card(plain)}, true, true, false},
		{"upstream's 403", flags.Outcome{Status: 403, Exchange: card(plain)}, true, false, false},
		{"token refused", flags.Outcome{Status: 401, Exchange: card(func(x *exchange.Exchange) { x.Refusal.Status = 401 })}, false, false, false},
		{"limit refused", flags.Outcome{Status: 429, Exchange: card(func(x *exchange.Exchange) { x.Refusal.Status = 429 })}, false, false, false},
		{"cache hit", flags.Outcome{Status: 200, Exchange: card(func(x *exchange.Exchange) { x.Cache.Status = "hit" })}, false, false, false},
		{"circuit open", flags.Outcome{Status: 503, Exchange: card(func(x *exchange.Exchange) { x.Refusal.Status, x.Refusal.Code = 503, "circuit-open" })}, true, true, true},
		{"circuit open, fallback", flags.Outcome{Status: 200, Exchange: card(func(x *exchange.Exchange) { x.FallbackReason = "circuit-open" })}, true, false, true},
		{"circuit closed", flags.Outcome{Status: 200, Exchange: card(func(x *exchange.Exchange) { x.Note("breaker.state", "closed") })}, true, false, false},
		{"circuit noted open", flags.Outcome{Status: 200, Exchange: card(func(x *exchange.Exchange) { x.Note("breaker.state", "open") })}, true, false, true},
		{"client left", flags.Outcome{Status: 200, Aborted: true, Exchange: attempt(context.Canceled)}, true, false, false},
		{"upstream broke off", flags.Outcome{Status: 200, Aborted: true, Exchange: attempt(errors.New("unexpected EOF"))}, true, true, false},
		{"a retry helped", flags.Outcome{Status: 200, Exchange: attempt(errors.New("connection refused"))}, true, false, false},
		{"without a card", flags.Outcome{Status: 500}, true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Rollout{FlagName: "test-" + t.Name(), Canary: "v2"}
			c.o.Variant, c.o.Split, c.o.Took = "v2", true, time.Millisecond
			r.Finished(c.o)
			w := r.tally.Take()
			if got := w.Canary.Requests() == 1; got != c.counted || (w.Canary.Failed == 1) != c.failed || (w.Canary.Tripped == 1) != c.trip || w.Stable.Requests() != 0 {
				t.Errorf("counted %t, failed %d, tripped %d; want %t, %t, %t", got, w.Canary.Failed, w.Canary.Tripped, c.counted, c.failed, c.trip)
			}
		})
	}
}

func TestWhoIsNotCompared(t *testing.T) {
	r := &Rollout{FlagName: "test", Canary: "v2", Stable: "v1"}
	r.Finished(flags.Outcome{Variant: "v2", Status: 500})              // a rule decided
	r.Finished(flags.Outcome{Variant: "v0", Split: true, Status: 500}) // neither of the two
	if w := r.tally.Take(); !w.Empty() {
		t.Errorf("counted %+v", w)
	}
	r.Finished(flags.Outcome{Variant: "v1", Split: true, Status: 500})
	if w := r.tally.Take(); w.Stable.Failed != 1 {
		t.Error("the stable variant is not counted")
	}
}

func BenchmarkFinished(b *testing.B) {
	r := &Rollout{FlagName: "test", Canary: "v2"}
	o := flags.Outcome{Variant: "v1", Split: true, Status: 200, Took: 12 * time.Millisecond, Exchange: new(exchange.Exchange)}
	b.ReportAllocs()
	for b.Loop() {
		r.Finished(o)
	}
}
