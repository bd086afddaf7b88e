package telemetry

import (
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestARequestIsTakenWithoutAskingWhereTheSamplerTakesAll(t *testing.T) {
	for name, all := range map[string]bool{
		"always_on": true, "parentbased_always_on": true, "": true,
		"always_off": false, "parentbased_always_off": false, "traceidratio": false, "parentbased_traceidratio": false,
	} {
		ratio := 0.0
		e := environment{getenv: func(string) string { return "" }}
		s := e.sampler(name, &ratio)
		if e.err != nil {
			t.Fatal(e.err)
		}
		if got := takesAll(s); got != all {
			t.Errorf("sampler '%s' takes all: %t, want %t", name, got, all)
		}
		asked := &tracer{sampler: s}
		quick := &tracer{sampler: s, always: takesAll(s)}
		remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: newTraceID(), SpanID: newSpanID(), Remote: true})
		for _, caller := range []trace.SpanContext{{}, remote, remote.WithTraceFlags(trace.FlagsSampled)} {
			a, q := asked.server(caller, "GET"), quick.server(caller, "GET")
			if a.TraceFlags() != q.TraceFlags() || a.TraceState().Len() != q.TraceState().Len() || !q.IsValid() ||
				caller.IsValid() && q.TraceID() != caller.TraceID() {
				t.Errorf("sampler '%s', caller %v: %v, asked %v", name, caller, q, a)
			}
		}
	}
}
