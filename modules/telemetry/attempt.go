package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// attempt is the client span of an upstream attempt.
type attempt struct {
	span         trace.SpanContext
	method       int
	path, server string
	resends      int
	told         [1]string // the span's traceparent
}

// Begin opens the client span of an attempt and tells the upstream of it. The
// span hangs on the attempt alone: it may outlive this request.
func (p *passage) Begin(out *http.Request, a *exchange.Attempt) {
	t := &p.first
	if len(p.x.Attempts) > 1 {
		t = &attempt{resends: len(p.x.Attempts) - 1}
	}
	a.Span = t
	t.method, t.server = methodOf(out.Method), a.Upstream
	if p.tracer == nil {
		return
	}
	carrier := &p.h.app.settings.carrier
	if !p.span.IsSampled() {
		carrier.inject(p.span, &p.told, out.Header)
		return
	}
	t.span, t.path = child(p.span), withoutTokens(out.URL.Path)
	t.told[0] = traceparent(t.span)
	carrier.inject(t.span, &t.told, out.Header)
}

// End measures the attempt and sends its span on its way. It may run on another goroutine, after
// the request has ended, so it looks at what does not change any more.
func (p *passage) End(a *exchange.Attempt) {
	t, ok := a.Span.(*attempt)
	if !ok {
		return
	}
	a.Span = nil
	o := clientOutcome{code: a.Status}
	switch {
	case a.Err != nil:
		o.failure = errorType(a.Err)
	case a.Status >= 400:
		o.failure = strconv.Itoa(a.Status)
	}
	clientSeries(t.server, t.method, o).observe(a.Began.Add(a.Duration), a.Duration, t.span)
	if t.span.IsSampled() {
		p.export(t, a, o)
	}
}

// export sends the client span on its way.
func (p *passage) export(t *attempt, a *exchange.Attempt, o clientOutcome) {
	w := p.tracer.record()
	w.text("http.request.method", methods[t.method])
	w.text("url.path", t.path)
	w.server(t.server)
	if t.resends > 0 {
		w.number("http.request.resend_count", t.resends)
	}
	if p.grpc {
		w.rpc(t.path)
	}
	if a.Status != 0 {
		w.number("http.response.status_code", a.Status)
	}
	began := a.Began.UnixNano()
	w.text("error.type", o.failure)
	h := head{
		sc: t.span, parent: p.span, kind: trace.SpanKindClient, name: methods[t.method],
		began: began, ended: began + int64(a.Duration), failed: o.failure != "",
	}
	if a.Err != nil {
		h.message = a.Err.Error()
	}
	p.tracer.deliver(&w, &h)
}

// Step records work that a guard has waited for.
func (p *passage) Step(st exchange.Step) {
	if !p.span.IsSampled() {
		return
	}
	w := p.tracer.record()
	w.text("db.system.name", st.System)
	if st.Server != "" {
		w.server(st.Server)
	}
	began := st.Began.UnixNano()
	h := head{sc: child(p.span), parent: p.span, kind: trace.SpanKindClient, name: st.Name, began: began, ended: began + int64(st.Took)}
	if st.Err != nil {
		h.failed, h.message = true, st.Err.Error()
		w.text("error.type", errorType(st.Err))
	}
	p.tracer.deliver(&w, &h)
}

func (w *wire) server(address string) {
	host, port := split(address)
	w.text("server.address", host)
	if port != 0 {
		w.number("server.port", port)
	}
}

func split(address string) (host string, port int) {
	if strings.IndexByte(address, ':') < 0 {
		return address, 0
	}
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
