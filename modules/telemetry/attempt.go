package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// Begin opens the client span of an attempt and tells the upstream of it. The
// span hangs on the attempt alone: it may outlive this request.
func (p *passage) Begin(out *http.Request, a *exchange.Attempt) {
	if p.ctx == nil {
		return
	}
	ctx := p.ctx
	if p.span.IsRecording() {
		var span trace.Span
		ctx, span = p.tracer.Start(ctx, knownMethod(out.Method), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(a.Began))
		attrs := make([]attribute.KeyValue, 0, 8)
		attrs = append(attrs, attribute.String("http.request.method", knownMethod(out.Method)), attribute.String("url.path", clean(out.URL.Path)))
		attrs = appendServer(attrs, a.Upstream)
		if n := len(p.x.Attempts); n > 1 {
			attrs = append(attrs, attribute.Int("http.request.resend_count", n-1))
		}
		if p.grpc {
			attrs = appendRPC(attrs, out.URL.Path)
		}
		span.SetAttributes(attrs...)
		a.Span = span
	}
	p.h.app.settings.carrier.inject(ctx, out.Header)
}

// End closes the client span. It may run on another goroutine, after the
// request has ended, so it looks at the attempt only.
func (p *passage) End(a *exchange.Attempt) {
	span, ok := a.Span.(trace.Span)
	if !ok {
		return
	}
	a.Span = nil
	if a.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", a.Status))
	}
	switch {
	case a.Err != nil:
		fail(span, a.Err)
	case a.Status >= 400:
		span.SetStatus(codes.Error, "")
		span.SetAttributes(attribute.String("error.type", strconv.Itoa(a.Status)))
	}
	span.End(trace.WithTimestamp(a.Began.Add(a.Duration)))
}

// Step records work that a guard has waited for.
func (p *passage) Step(st exchange.Step) {
	if p.span == nil || !p.span.IsRecording() {
		return
	}
	_, span := p.tracer.Start(p.ctx, st.Name, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(st.Began))
	if st.System != "" {
		span.SetAttributes(attribute.String("db.system.name", st.System))
	}
	if st.Server != "" {
		span.SetAttributes(appendServer(nil, st.Server)...)
	}
	if st.Err != nil {
		fail(span, st.Err)
	}
	span.End(trace.WithTimestamp(st.Began.Add(st.Took)))
}

func fail(span trace.Span, err error) {
	span.SetStatus(codes.Error, clean(err.Error()))
	span.SetAttributes(attribute.String("error.type", errorType(err)))
}

func appendServer(attrs []attribute.KeyValue, address string) []attribute.KeyValue {
	host, port := split(address)
	attrs = append(attrs, attribute.String("server.address", clean(host)))
	if port != 0 {
		attrs = append(attrs, attribute.Int("server.port", port))
	}
	return attrs
}

func split(address string) (host string, port int) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address, 0
	}
	port, _ = strconv.Atoi(text)
	return host, port
}

// errorType names an error with few words, the same for each of its kind.
func errorType(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	var dial reverseproxy.DialError // tells nothing of what it wraps
	switch t, _ := errors.AsType[net.Error](err); {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), t != nil && t.Timeout():
		return "timeout"
	case errors.As(err, &dns):
		return "dns"
	case errors.As(err, &dial):
		return "connection_dial"
	case errors.As(err, &op):
		return "connection_" + op.Op
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection_closed"
	}
	return "_OTHER"
}
