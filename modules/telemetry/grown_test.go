package telemetry

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// However many addresses upstreams have had, few have series.
func TestAddressesAreCapped(t *testing.T) {
	known, all := upstreams.known, upstreams.all
	upstreams.known, upstreams.all = make(map[string]*upstream), make(map[clientKey]*histogram)
	t.Cleanup(func() { upstreams.known, upstreams.all = known, all })
	for i := range 3 * mostUpstreams {
		clientSeries(fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), 0, clientOutcome{code: 200})
	}
	if n := len(upstreams.known); n > mostUpstreams+1 {
		t.Errorf("%d addresses are known", n)
	}
}

// Many at once grow one histogram for a key, and none of their counts is lost.
func TestOneHistogramForAKey(t *testing.T) {
	r := newRoute("test of one histogram", "/")
	const goroutines, each = 8, 500
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range each {
				r.series(0, classLight, outcome{code: 200 + i%3}).observe(time.Now(), time.Millisecond, trace.SpanContext{})
			}
		})
	}
	wg.Wait()
	var all reading
	n := 0
	for k, h := range requestSeries.all {
		if k.route == r.label {
			all.add(h)
			n++
		}
	}
	if n != 3 || all.counts[0] != goroutines*each {
		t.Errorf("%d histograms hold %d, want 3 and %d", n, all.counts[0], goroutines*each)
	}
	// Another configuration's route of that name goes on counting there.
	again := newRoute(r.label, r.pattern)
	if again.series(0, classLight, outcome{code: 200}) != r.series(0, classLight, outcome{code: 200}) {
		t.Error("a reload begins a new histogram")
	}
}
