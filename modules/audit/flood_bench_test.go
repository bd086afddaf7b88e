package audit

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// refusals tells of n refused requests a second until stop is called. Nine of
// ten come from one client, the others from ever new ones.
func refusals(n int, hear func(exchange.Fact)) (stop func() (told int)) {
	quit, done := make(chan struct{}), make(chan int)
	requests := make([]*http.Request, 500)
	for i := range requests {
		r := httptest.NewRequest("GET", "http://api.example.com/orders/42", nil)
		r.RemoteAddr = "203.0.113.1:1000"
		if i%10 == 0 {
			r.RemoteAddr = "198.51.100." + strconv.Itoa(i/10) + ":1000"
		}
		requests[i] = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
		exchange.Of(requests[i]).Refusal = exchange.Refusal{Room: "rate_limit", Code: "quota-exceeded", Status: 429}
	}
	go func() {
		told := 0
		began := time.Now()
		for {
			select {
			case <-quit:
				done <- told
				return
			default:
			}
			due := int(time.Since(began).Seconds() * float64(n))
			for ; told < due; told++ {
				hear(exchange.Fact{Kind: exchange.LimitRefused, Code: "quota-exceeded", Time: time.Now(), Request: requests[told%len(requests)]})
			}
			time.Sleep(time.Millisecond) // the pace; due catches up
		}
	}()
	return func() int { close(quit); return <-done }
}

// BenchmarkFlood is what 50,000 refusals a second do to other requests: the
// p99 of a request that is not refused while the refusals are recorded, as a
// ratio to that while nobody listens to them. Of the pairs, a round of each one
// after the other, the median is told.
func BenchmarkFlood(b *testing.B) {
	h, r := benchHandler(b)
	h.app.Coalesce.First, h.app.Coalesce.Window = 10, caddy.Duration(10*time.Second)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	w := httptest.NewRecorder()
	round := func(hear func(exchange.Fact)) (took []time.Duration, told int) {
		stop := refusals(50_000, hear)
		for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); {
			began := time.Now()
			delete(vars, witnessKey)
			_ = h.ServeHTTP(w, r, next)
			took = append(took, time.Since(began))
			time.Sleep(20 * time.Microsecond)
		}
		return took, stop()
	}
	p99 := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)*99/100].Nanoseconds()) / 1e3
	}
	var with, without, ratios []float64
	told := 0
	for b.Loop() {
		took, n := round(h.app.hear)
		quiet, _ := round(func(exchange.Fact) {})
		with, without, told = append(with, p99(took)), append(without, p99(quiet)), told+n
		ratios = append(ratios, with[len(with)-1]/without[len(without)-1])
	}
	median := func(list []float64) float64 {
		slices.Sort(list)
		return list[len(list)/2]
	}
	b.ReportMetric(median(with), "µs-p99-recorded")
	b.ReportMetric(median(without), "µs-p99-unheard")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(float64(told)/float64(b.N)*2, "refusals/s")
	b.ReportMetric(0, "ns/op")
}
