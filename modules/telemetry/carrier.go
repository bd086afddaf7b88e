package telemetry

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// carrier reads and writes trace context in headers.
type carrier struct {
	// all reads every format; others writes those besides W3C's, which w3c says
	// to write and which is written here.
	all, others propagation.TextMapPropagator
	w3c         bool
	// fields are all the headers that the formats use.
	fields []string
}

func (e *environment) carrier(names []string) carrier {
	if len(names) == 0 {
		for n := range strings.SplitSeq(first(e.getenv("OTEL_PROPAGATORS"), "tracecontext,baggage"), ",") {
			names = append(names, strings.TrimSpace(n))
		}
	}
	var c carrier
	var formats []string
	for _, n := range names {
		switch n {
		case "tracecontext", "b3", "b3multi", "jaeger", "xray", "ottrace":
			formats = append(formats, n)
		case "baggage": // an ordinary header, which passes by itself
			c.fields = append(c.fields, "Baggage")
		case "none":
		default:
			e.fail("the propagators are tracecontext, baggage, b3, b3multi, jaeger, xray, ottrace and none, not '%s'", n)
			return c
		}
	}
	if len(formats) == 0 {
		formats = []string{"none"}
	}
	others := slices.DeleteFunc(slices.Clone(formats), func(f string) bool { return f == "tracecontext" })
	c.w3c = len(others) < len(formats)
	var err error
	if c.all, err = autoprop.TextMapPropagator(formats...); err == nil && len(others) > 0 {
		c.others, err = autoprop.TextMapPropagator(others...)
	}
	if err != nil {
		e.fail("propagators: %w", err)
		return c
	}
	for _, f := range c.all.Fields() {
		c.fields = append(c.fields, http.CanonicalHeaderKey(f))
	}
	return c
}

// extract returns the caller's span if h has a valid one.
func (c *carrier) extract(h http.Header) trace.SpanContext {
	for _, f := range c.fields {
		if _, said := h[f]; said {
			return trace.SpanContextFromContext(c.all.Extract(context.Background(), propagation.HeaderCarrier(h)))
		}
	}
	return trace.SpanContext{}
}

// inject writes the context of a span, whose traceparent is place's. It
// replaces what the headers had, and h uses place from then on.
func (c *carrier) inject(sc trace.SpanContext, place *[1]string, h http.Header) {
	if c.w3c {
		h["Traceparent"] = place[:]
		if ts := sc.TraceState(); ts.Len() > 0 {
			h["Tracestate"] = []string{ts.String()}
		}
	}
	if c.others != nil {
		c.others.Inject(trace.ContextWithSpanContext(context.Background(), sc), propagation.HeaderCarrier(h))
	}
}

// forget removes the context of a caller who is not trusted with one.
func (c *carrier) forget(h http.Header) {
	for _, f := range c.fields {
		delete(h, f)
	}
}
