package telemetry

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// listening is a client that keeps what the SDK's exporter would send.
type listening struct{ got []*tracepb.ResourceSpans }

func (*listening) Start(context.Context) error { return nil }
func (*listening) Stop(context.Context) error  { return nil }
func (l *listening) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	l.got = spans
	return nil
}

func sdkSpan(t *testing.T, stub tracetest.SpanStub) *tracepb.Span {
	t.Helper()
	client := new(listening)
	exporter, err := otlptrace.New(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if err := exporter.ExportSpans(t.Context(), []sdktrace.ReadOnlySpan{stub.Snapshot()}); err != nil {
		t.Fatal(err)
	}
	return client.got[0].ScopeSpans[0].Spans[0]
}

func spanContext(t testing.TB, n byte, state string, remote bool) trace.SpanContext {
	t.Helper()
	ts, err := trace.ParseTraceState(state)
	if err != nil {
		t.Fatal(err)
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{n, 15: 1}, SpanID: trace.SpanID{n, 7: 2}, TraceFlags: trace.FlagsSampled, TraceState: ts, Remote: remote,
	})
}

// A span is written as the SDK's exporter writes it.
func TestSpansAreWrittenAsTheSDKWritesThem(t *testing.T) {
	began := time.Unix(1700000000, 123456789)
	for _, c := range []struct {
		name       string
		head       head
		attributes []attribute.KeyValue
	}{
		{"root", head{sc: spanContext(t, 1, "", false), kind: trace.SpanKindServer, name: "GET /x"}, nil},
		{"remote parent", head{sc: spanContext(t, 1, "a=1,b=2", false), parent: spanContext(t, 2, "", true), kind: trace.SpanKindServer, name: "GET"}, []attribute.KeyValue{
			attribute.String("http.route", "/x/*"), attribute.Int("http.response.status_code", 200), attribute.Int("negative", -1),
			attribute.Bool("yes", true), attribute.Bool("no", false), attribute.Float64("pi", 3.14),
		}},
		{"local parent", head{sc: spanContext(t, 1, "", false), parent: spanContext(t, 3, "", false), kind: trace.SpanKindClient, name: "GET", failed: true, message: "refused"}, nil},
		{"link", head{sc: spanContext(t, 1, "", false), link: spanContext(t, 9, "", true), kind: trace.SpanKindServer, name: "GET", failed: true}, nil},
		{"long", head{sc: spanContext(t, 1, "", false), kind: trace.SpanKindClient, name: strings.Repeat("n", 200)}, []attribute.KeyValue{
			attribute.String("url.path", strings.Repeat("/ü", 3000)),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.head.began, c.head.ended = began.UnixNano(), began.Add(time.Second).UnixNano()
			w := wire{attributes: spanAttributes, limits: limits{count: 128, length: 1 << 20}}
			for _, kv := range c.attributes {
				write(&w, kv)
			}
			w.span(&c.head)
			got := new(tracepb.Span)
			if err := proto.Unmarshal(w.b, got); err != nil {
				t.Fatal(err)
			}
			stub := tracetest.SpanStub{
				Name: c.head.name, SpanContext: c.head.sc, Parent: c.head.parent, SpanKind: c.head.kind, Attributes: c.attributes,
				StartTime: began, EndTime: began.Add(time.Second),
			}
			if c.head.failed {
				stub.Status = sdktrace.Status{Code: codes.Error, Description: c.head.message}
			}
			if c.head.link.IsValid() {
				stub.Links = []sdktrace.Link{{SpanContext: c.head.link}}
			}
			if want := sdkSpan(t, stub); !proto.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

func write(w *wire, kv attribute.KeyValue) {
	switch key := string(kv.Key); kv.Value.Type() {
	case attribute.STRING:
		w.text(key, kv.Value.AsString())
	case attribute.INT64:
		w.number(key, int(kv.Value.AsInt64()))
	case attribute.BOOL:
		w.truth(key, kv.Value.AsBool())
	case attribute.FLOAT64:
		w.real(key, kv.Value.AsFloat64())
	}
}

func TestLimits(t *testing.T) {
	w := wire{attributes: spanAttributes, limits: limits{count: 2, length: 4}}
	w.text("cut", "abcdefgh")
	w.text("between characters", "abcü")
	w.text("lost", "x")
	w.number("lost too", 1)
	w.span(&head{sc: spanContext(t, 1, "", false), name: "\xff\xfe"})
	got := new(tracepb.Span)
	if err := proto.Unmarshal(w.b, got); err != nil {
		t.Fatal(err)
	}
	if len(got.Attributes) != 2 || got.DroppedAttributesCount != 2 {
		t.Fatalf("got %d attributes, %d dropped: %v", len(got.Attributes), got.DroppedAttributesCount, got)
	}
	for i, want := range []string{"abcd", "abc"} {
		if text := got.Attributes[i].Value.GetStringValue(); text != want {
			t.Errorf("attribute %d is %q, want %q", i, text, want)
		}
	}
	if got.Name != "\uFFFD" {
		t.Errorf("the name is %q", got.Name)
	}
}

// FuzzText: whatever a client sends, a collector can read the record.
func FuzzText(f *testing.F) {
	f.Add("/orders", 10)
	f.Add("\xff\xc3", 1)
	f.Add("ü€😀", 3)
	f.Fuzz(func(t *testing.T, text string, length int) {
		w := wire{attributes: spanAttributes, limits: limits{count: 1, length: max(length, 1)}}
		w.text("url.path", text)
		w.span(&head{sc: spanContext(t, 1, "", false), name: text, failed: true, message: text})
		if err := proto.Unmarshal(w.b, new(tracepb.Span)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// What waits is bounded, sent in batches, and counted whatever becomes of it.
func TestOutbox(t *testing.T) {
	release, sent := make(chan struct{}), make(chan int, 100)
	o := &outbox{lane: newLane("traces"), limit: 10, batch: 4, delay: time.Hour, patience: time.Hour}
	o.upload = func(ctx context.Context, records []byte) error {
		select {
		case <-release:
			sent <- len(records)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	o.start()
	for range 12 {
		o.put([]byte("12345678"))
	}
	if waiting, dropped := o.waiting.Load(), o.dropped.Load(); waiting != 10 || dropped != 2 {
		t.Errorf("%d wait and %d were dropped, want 10 and 2", waiting, dropped)
	}
	release <- struct{}{}
	release <- struct{}{}
	if first, second := <-sent, <-sent; first != 40 || second != 40 {
		t.Errorf("parcels of %d and %d bytes, want 40 each", first, second)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no time is left for the rest
	o.close(ctx)
	if delivered, failed, waiting := o.delivered.Load(), o.failed.Load(), o.waiting.Load(); delivered != 8 || failed != 2 || waiting != 0 {
		t.Errorf("%d delivered, %d failed, %d wait; want 8, 2, 0", delivered, failed, waiting)
	}
	if _, err := o.trouble(); !errors.Is(err, context.Canceled) {
		t.Errorf("the trouble is %v", err)
	}
	if _, open := o.put([]byte("late")); open {
		t.Error("a closed outbox takes records")
	}
}

func BenchmarkSpan(b *testing.B) {
	h := head{sc: spanContext(b, 1, "", false), kind: trace.SpanKindServer, name: "GET /orders/*"}
	b.ReportAllocs()
	for b.Loop() {
		w := newWire(spanAttributes, limits{count: 128, length: 4096})
		for range 12 {
			w.text("http.request.method", "GET /orders/17")
		}
		w.number("http.response.status_code", 200)
		w.span(&h)
		w.leave()
	}
}
