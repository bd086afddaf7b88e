package telemetry

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// passage is one request on its way through the house: the writer that sees
// its answer, and the watcher that hears of its upstream attempts.
type passage struct {
	answer
	h     *Handler
	x     *exchange.Exchange
	route *route
	began time.Time
	// ctx carries the server span, for the spans and headers of attempts; nil
	// where no traces are exported.
	ctx     context.Context
	span    trace.Span
	tracer  trace.Tracer
	request asked
	grpc    bool
	named   bool
}

// open begins the server span and has the upstream learn of it.
func (p *passage) open(r *http.Request) {
	p.began = time.Now()
	p.x.Watch = p
	p.grpc = isGRPC(r)
	inFlight.Inc()
	if p.h.named != nil {
		p.name(p.h.named)
	} else {
		p.route = p.h.routes().find(r)
		p.x.Route = p.route.label
	}
	e := exporting()
	if e == nil || e.tracer == nil {
		return
	}
	p.tracer = e.tracer
	carrier := &p.h.app.settings.carrier
	options := [3]trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(p.began)}
	n, ctx := 2, context.Background()
	if caller := carrier.extract(r.Header); caller.IsValid() {
		if p.h.trust.in(r.RemoteAddr) {
			ctx = trace.ContextWithRemoteSpanContext(ctx, caller)
		} else {
			carrier.forget(r.Header)
			options[n] = trace.WithLinks(trace.Link{SpanContext: caller})
			n++
		}
	}
	p.ctx, p.span = p.tracer.Start(ctx, knownMethod(r.Method), options[:n]...)
	if p.span.IsRecording() {
		p.request = ask(r)
	}
	sc := p.span.SpanContext()
	p.x.TraceID, p.x.SpanID = sc.TraceID().String(), sc.SpanID().String()
	carrier.inject(p.ctx, r.Header)
	if extra := fields(r); extra != nil {
		extra.Add(zap.String("trace_id", p.x.TraceID))
		extra.Add(zap.String("span_id", p.x.SpanID))
	}
}

// name has an operator's name stand for the route; the first one does.
func (p *passage) name(to *route) {
	if to == nil || p.named {
		return
	}
	p.route, p.named = to, true
	p.x.Route = to.label
}

// close measures the request and sends the server span on its way.
func (p *passage) close(r *http.Request, err error, aborted bool) {
	took := time.Since(p.began)
	inFlight.Dec()
	if p.status == 0 {
		switch {
		case err != nil:
			p.status = statusOf(err)
		case !aborted:
			p.status = http.StatusOK
		}
	}
	code := ""
	if p.grpc {
		code = grpcCode(p.Header())
		countCall(r, code, len(p.x.Attempts) > 0)
	}
	var proxied classIndex
	if p.proxied(r) {
		proxied = classProxied
	}
	var sc trace.SpanContext
	covered := false
	if p.span != nil {
		sc = p.span.SpanContext()
		if p.span.IsRecording() {
			p.tell(aborted, code)
			e := exporting()
			covered = e != nil && e.spans != nil && !e.spans.full()
		}
		p.span.End(trace.WithTimestamp(p.began.Add(took)))
	}
	p.route.series(methodOf(r.Method), p.status/100, proxied).observe(p.began, took, sc)
	cover(p.route, covered, p.x.Audited)
	p.log(r)
}

// proxied says whether an upstream was asked. A stock reverse_proxy does not
// write on the card; it sets a placeholder.
func (p *passage) proxied(r *http.Request) bool {
	if len(p.x.Attempts) > 0 {
		return true
	}
	if !p.route.proxy {
		return false
	}
	_, tried := replacer(r).Get("http.reverse_proxy.upstream.address")
	return tried
}

// fields returns where the access log's fields go, or nil if nobody logs.
func fields(r *http.Request) *caddyhttp.ExtraLogFields {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.Logs == nil {
		return nil
	}
	extra, _ := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	return extra
}
