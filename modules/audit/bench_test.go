package audit

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// processorTime is what all threads have used, those of the deliveries among them.
func processorTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkRecord is what the directive adds to a request: the witness, the
// event, and its place in the queue. What it takes of a processor, cpu-ns/op,
// has the delivery in it.
func BenchmarkRecord(b *testing.B) {
	h, r := benchHandler(b)
	w := httptest.NewRecorder()
	w.Body = nil
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	b.ReportAllocs()
	began := processorTime(b)
	for b.Loop() {
		delete(vars, witnessKey)
		if err := h.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
}

func benchHandler(b *testing.B) (*Handler, *http.Request) {
	d, a := testDesk(&sinkEntry{name: "s", sink: new(nowhere)})
	if _, err := d.attach(a); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		d.detach(a, 0)
		_ = d.Destruct()
	})
	h := &Handler{app: a}
	var err error
	if h.lens, err = grind(nil, Redact{}, "", nil); err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("GET", "http://api.example.com/orders/42?page=2", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
	x := exchange.Of(r)
	x.Identity = exchange.Identity{Subject: "ann", Issuer: "main"}
	x.Zones = append(x.Zones, exchange.Zone{Name: "per_user", Result: "allowed", Source: "local", Remaining: 7})
	x.Attempts = append(x.Attempts, &exchange.Attempt{Upstream: "orders-1:8080", Status: 200})
	return h, r
}
