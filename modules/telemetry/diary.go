package telemetry

import (
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap/zapcore"
)

// diary delivers log records.
type diary struct {
	out *outbox
	limits
}

// record begins a log record. Deliver ends it.
func (d *diary) record() wire { return newWire(logAttributes, d.limits) }

// noted is what a log record has besides attributes.
type noted struct {
	at    time.Time
	level zapcore.Level
	body  string
	trace trace.TraceID
	span  trace.SpanID
	flags trace.TraceFlags
}

// severities are OpenTelemetry's numbers for zap's levels, from debug on.
var severities = [...]uint64{5, 9, 13, 17, 21, 21, 21}

// deliver sends a record that has its attributes on its way. Where this export
// has ended, with its configuration, the one that followed takes it.
func (d *diary) deliver(w *wire, e *noted) {
	defer w.leave()
	at := uint64(max(0, e.at.UnixNano()))
	w.fixed64(1, at)
	w.varint(2, severities[min(max(int(e.level)+1, 0), len(severities)-1)])
	w.string(3, e.level.CapitalString())
	body := w.clean(e.body)
	inner := wire{}
	inner.string(1, body)
	w.bytes(5, inner.b)
	if w.lost > 0 {
		w.varint(7, uint64(w.lost))
	}
	if e.trace.IsValid() {
		w.fixed32(8, uint32(e.flags))
		w.bytes(9, e.trace[:])
		w.bytes(10, e.span[:])
	}
	w.fixed64(11, at)
	if _, open := d.out.put(w.b); open {
		return
	}
	if now := exporting(); now != nil && now.diary != nil {
		if _, open := now.diary.out.put(w.b); open {
			return
		}
	}
	d.out.dropped.Add(1)
}

// inDiary says that the access log has an entry of r, as Caddy's server
// decides it, so that it is exported too.
func inDiary(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.Logs == nil {
		return false
	}
	if skip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.LogSkipVar).(bool); skip {
		return false
	}
	logs := server.Logs
	if len(logs.LoggerNames) == 0 && len(logs.SkipHosts) == 0 {
		return !logs.SkipUnmappedHosts
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	for name := range logs.LoggerNames {
		if certmagic.MatchWildcard(host, name) {
			return true
		}
	}
	skipped := slices.ContainsFunc(logs.SkipHosts, func(h string) bool { return certmagic.MatchWildcard(host, h) })
	return !skipped && !logs.SkipUnmappedHosts
}

// write exports the access log's entry of the request. It has no header and no
// query, which is where credentials are found.
func (p *passage) write(took time.Duration, aborted bool, code string) {
	w := p.diary.record()
	p.describe(&w, aborted, code)
	w.text("sallyport.subject", p.h.subject.name(p.x.Identity.Subject))
	if n := len(p.x.Attempts); n > 0 {
		w.text("sallyport.upstream", p.x.Attempts[n-1].Upstream)
		w.number("sallyport.attempts", n)
	}
	w.number("http.response.body.size", int(p.size))
	w.real("http.server.request.duration", took.Seconds())
	e := noted{at: p.began.Add(took), body: "handled request", trace: p.span.TraceID(), span: p.span.SpanID(), flags: p.span.TraceFlags()}
	if p.status >= 500 || aborted {
		e.level = zapcore.ErrorLevel
	}
	p.diary.deliver(&w, &e)
}

// contextOf reads the ids that a log entry tells.
func (e *noted) contextOf(traceID, spanID string) {
	if n, err := hex.Decode(e.trace[:], []byte(traceID)); err != nil || n != len(e.trace) {
		e.trace = trace.TraceID{}
	}
	if n, err := hex.Decode(e.span[:], []byte(spanID)); err != nil || n != len(e.span) {
		e.span = trace.SpanID{}
	}
}
