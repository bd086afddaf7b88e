package otlp

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

func batch(texts ...string) audit.Batch {
	b := audit.Batch{Node: "gw-1"}
	for i, s := range texts {
		b.Events = append(b.Events, audit.Event{Mark: spool.Mark{Epoch: 7, Seq: uint64(i + 1)}, Time: time.Unix(1, 0), Type: "sallyport.test", JSON: []byte(s)})
	}
	return b
}

func TestDeliver(t *testing.T) {
	var got collogs.ExportLogsServiceRequest
	status, rejected := http.StatusOK, int64(0)
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &got)
		}
		if err != nil || r.URL.Path != "/v1/logs" || r.Header.Get("Authorization") != "Bearer t0p" {
			t.Errorf("request %s: %v", r.URL, err)
		}
		answer, _ := proto.Marshal(&collogs.ExportLogsServiceResponse{PartialSuccess: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: "no"}})
		w.WriteHeader(status)
		_, _ = w.Write(answer)
	}))
	defer far.Close()
	s := &Sink{Web: audit.Web{URL: far.URL, Token: "t0p"}}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Deliver(t.Context(), batch(`{"a":1}`, `{"b":2}`)); err != nil {
		t.Fatal(err)
	}
	records := got.ResourceLogs[0].ScopeLogs[0].LogRecords
	if len(records) != 2 || records[1].Body.GetStringValue() != `{"b":2}` || records[1].EventName != "sallyport.test" {
		t.Errorf("the collector has %v", records)
	}
	for _, c := range []struct {
		status   int
		rejected int64
		want     audit.Verdict
	}{{200, 1, audit.Poison}, {503, 0, audit.Again}, {413, 0, audit.Smaller}, {403, 0, audit.Denied}} {
		status, rejected = c.status, c.rejected
		err := s.Deliver(t.Context(), batch(`{}`))
		if f, ok := errors.AsType[*audit.Fault](err); !ok || f.Verdict != c.want {
			t.Errorf("status %d, %d rejected: %v, want %v", c.status, c.rejected, err, c.want)
		}
	}
}
