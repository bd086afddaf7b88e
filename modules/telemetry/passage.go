package telemetry

import (
	"net/http"
	"strconv"
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
	// method and path are what was asked for, before any handler rewrites it.
	method int
	path   string
	// tracer is nil where no traces are exported, span is then not valid.
	tracer *tracer
	span   trace.SpanContext
	diary  *diary // nil where no logs are exported
	// caller is the span that this one continues, link that of a caller who is
	// not trusted with it.
	caller, link trace.SpanContext
	request      asked
	grpc         bool
	named        bool
	told         [1]string // the span's traceparent
	first        attempt   // spares an allocation where one is enough
}

// open begins the server span and has the upstream learn of it.
func (p *passage) open(r *http.Request) {
	p.began = time.Now()
	p.x.Watch = p
	p.grpc = isGRPC(r)
	p.method, p.path = methodOf(r.Method), r.URL.Path
	inFlight.Inc()
	if p.h.named != nil {
		p.name(p.h.named)
	} else {
		p.route = p.h.routes().find(r)
		p.x.Route = p.route.label
	}
	e := exporting()
	if e == nil {
		return
	}
	p.diary = e.diary
	if p.diary != nil {
		p.request = ask(r)
	}
	if e.tracer == nil {
		return
	}
	p.tracer = e.tracer
	carrier := &p.h.app.settings.carrier
	if caller := carrier.extract(r.Header); caller.IsValid() {
		if p.h.trust.in(r.RemoteAddr) {
			p.caller = caller
		} else {
			carrier.forget(r.Header)
			p.link = caller
		}
	}
	p.span = p.tracer.server(p.caller, knownMethod(r.Method))
	if p.span.IsSampled() && p.diary == nil {
		p.request = ask(r)
	}
	p.told[0] = traceparent(p.span)
	p.x.TraceID, p.x.SpanID = p.told[0][traceFrom:traceTo], p.told[0][spanFrom:spanTo]
	carrier.inject(p.span, &p.told, r.Header)
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
		n, _ := strconv.Atoi(code)
		const unimplemented = 12
		proven := len(p.x.Attempts) > 0 && n != unimplemented
		serviceOf(p.path, proven).codes[n].observe(p.began.Add(took), took, p.span)
	}
	var proxied classIndex
	if p.proxied(r) {
		proxied = classProxied
	}
	covered := p.span.IsSampled() && p.tell(took, aborted, code)
	p.route.series(p.method, proxied, outcome{code: p.status, tls: r.TLS != nil, aborted: aborted}).observe(p.began.Add(took), took, p.span)
	cover(p.route, covered, p.x.Audited)
	p.log(r)
	if p.diary != nil && inDiary(r) {
		p.write(took, aborted, code)
	}
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
