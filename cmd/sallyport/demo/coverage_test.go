package demo

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sallyport-gateway/sallyport/test/collector"
)

// TestProductionIsCovered puts the shipped production configuration under load,
// with callers that are let in, limited and refused. At least 95 % of the
// requests must carry a trace and an audit signal, by the gateway's own
// counters, and as many spans must arrive.
func TestProductionIsCovered(t *testing.T) {
	to := collector.Start(t)
	l := launch(t, folder+"production.Caddyfile", "ENABLE_TELEMETRY=true", "OTEL_EXPORTER_OTLP_ENDPOINT="+to.HTTP, "OTEL_BSP_SCHEDULE_DELAY=200")
	drained := make(chan struct{})
	go func() { // an access log that nobody reads would hold the gateway up
		defer close(drained)
		for l.lines.Scan() {
		}
	}()
	tokens := []string{"", "not.a.token"}
	for i := range 10 {
		_, token := ask(t, fmt.Sprintf("%s/token?sub=caller-%d", l.issuer, i), "")
		tokens = append(tokens, strings.TrimSpace(token))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()

	const callers, each = 8, 150
	var mu sync.Mutex // guards tally
	tally := make(map[int]int)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				r, err := http.NewRequest(http.MethodGet, l.orders+"/"+strconv.Itoa(i), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if token := tokens[(c+i)%len(tokens)]; token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				res, err := transport.RoundTrip(r)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				mu.Lock()
				tally[res.StatusCode]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if tally[200] == 0 || tally[401] == 0 || tally[429] == 0 {
		t.Errorf("the load is not mixed: %v", tally)
	}

	counted := make(map[string]int)
	_, text := ask(t, l.probes+"/metrics", "")
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, `sallyport_coverage_requests_total{signals="`); ok {
			signals, n, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
			counted[signals], _ = strconv.Atoi(n)
		}
	}
	all := counted["both"] + counted["trace"] + counted["audit"] + counted["none"]
	if all != callers*each || counted["both"]*100 < all*95 {
		t.Errorf("of %d requests the gateway counts %v; want at least 95 %% with both", callers*each, counted)
	}
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-drained
	if code, _ := l.wait(); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	spans := 0
	for _, s := range to.Spans() {
		if s.Kind == trace.Span_SPAN_KIND_SERVER {
			spans++
		}
	}
	if spans*100 < all*95 {
		t.Errorf("%d server spans arrived, want at least 95 %% of %d", spans, all)
	}
	t.Logf("answers %v, signals %v, server spans %d", tally, counted, spans)
}
