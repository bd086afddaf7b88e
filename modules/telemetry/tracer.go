package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// tracer begins and delivers spans. It samples by the SDK's samplers and
// writes what the SDK would, for less than half its price: a span is never an
// object, and its attributes are written once.
type tracer struct {
	sampler sdktrace.Sampler
	// always says that the sampler takes every request that continues no trace.
	always bool
	out    *outbox
	limits
}

// server decides on the span of a request. Caller is the span that it
// continues, if valid.
func (t *tracer) server(caller trace.SpanContext, method string) trace.SpanContext {
	c := trace.SpanContextConfig{TraceID: caller.TraceID(), SpanID: newSpanID()}
	ctx := context.Background()
	if caller.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, caller)
	} else {
		c.TraceID = newTraceID()
		if t.always {
			c.TraceFlags = trace.FlagsSampled
			return trace.NewSpanContext(c)
		}
	}
	s := t.sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: c.TraceID, Name: method, Kind: trace.SpanKindServer})
	c.TraceState = s.Tracestate
	c.TraceFlags = caller.TraceFlags().WithSampled(s.Decision == sdktrace.RecordAndSample)
	return trace.NewSpanContext(c)
}

// child is a span below one of this process. Each of the SDK's samplers
// decides on it as on its parent.
func child(parent trace.SpanContext) trace.SpanContext {
	return parent.WithSpanID(newSpanID())
}

// deliver sends a span that began with these attributes on its way. Where this
// export has ended, with its configuration, the one that followed takes it.
func (t *tracer) deliver(w *wire, h *head) (taken bool) {
	defer w.leave()
	w.span(h)
	taken, open := t.out.put(w.b)
	if open {
		return taken
	}
	if e := exporting(); e != nil && e.tracer != nil {
		if taken, open = e.tracer.out.put(w.b); open {
			return taken
		}
	}
	t.out.dropped.Add(1)
	return false
}

// record begins a span. Deliver ends it.
func (t *tracer) record() wire { return newWire(spanAttributes, t.limits) }

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// The places of the ids in a traceparent, 00-<trace>-<span>-<flags>.
const (
	traceFrom, traceTo = 3, 35
	spanFrom, spanTo   = 36, 52
)

// traceparent is the W3C form of a span's context (Trace Context, section 3.2).
func traceparent(sc trace.SpanContext) string {
	b := [55]byte{0: '0', 1: '0', 2: '-', traceTo: '-', spanTo: '-'}
	tid, sid := sc.TraceID(), sc.SpanID()
	hex.Encode(b[traceFrom:], tid[:])
	hex.Encode(b[spanFrom:], sid[:])
	hex.Encode(b[spanTo+1:], []byte{byte(sc.TraceFlags() & (trace.FlagsSampled | trace.FlagsRandom))})
	return string(b[:])
}
