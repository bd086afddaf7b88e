package telemetry

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// carrier reads and writes trace context in headers.
type carrier struct {
	propagation.TextMapPropagator
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
	p, err := autoprop.TextMapPropagator(formats...)
	if err != nil {
		e.fail("propagators: %w", err)
		return c
	}
	c.TextMapPropagator = p
	for _, f := range p.Fields() {
		c.fields = append(c.fields, http.CanonicalHeaderKey(f))
	}
	return c
}

// extract returns the caller's span if h has a valid one.
func (c *carrier) extract(h http.Header) trace.SpanContext {
	for _, f := range c.fields {
		if _, said := h[f]; said {
			return trace.SpanContextFromContext(c.Extract(context.Background(), propagation.HeaderCarrier(h)))
		}
	}
	return trace.SpanContext{}
}

// inject writes the context of ctx's span. It replaces what the headers had.
func (c *carrier) inject(ctx context.Context, h http.Header) {
	c.Inject(ctx, propagation.HeaderCarrier(h))
}

// forget removes the context of a caller who is not trusted with one.
func (c *carrier) forget(h http.Header) {
	for _, f := range c.fields {
		delete(h, f)
	}
}
