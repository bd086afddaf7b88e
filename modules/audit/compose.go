package audit

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// An event is a CloudEvent 1.0 in JSON whose data is an OCSF object. What the
// spool holds lacks its place; the delivery puts that in front, so that one
// text serves every sink:
//
//	{"seq":"42","epoch":"1767…","node":"gw-1", | "specversion":"1.0","id":…,"data":{…}}
//	 added on delivery                           in the spool, with its own brace

// maxEvent caps one event: beyond it lists and extras are cut.
const maxEvent = 32 << 10

// beforeID is how every event begins.
const beforeID = `{"specversion":"1.0","id":"`

// idOf cuts the id out of an event of ours.
func idOf(event []byte) []byte { return event[len(beforeID):][:uuidSize] }

// envelopeOf is what stands between an event's id and its type's own name.
func envelopeOf(node string) string {
	p := pen{b: []byte{'"'}}
	p.text("source", "/sallyport/"+url.PathEscape(node))
	return string(p.b) + `,"type":"sallyport.`
}

// begin writes the envelope up to the members that all bodies share.
func (a *App) begin(p *pen, k eventKind, at time.Time, activity int64) {
	p.b = append(p.b, beforeID...)
	p.b = appendUUID(p.b, at)
	p.b = append(p.b, a.envelope...)
	p.b = append(p.b, k.name...)
	p.b = append(p.b, `","time":"`...)
	p.b = appendInstant(p.b, at)
	p.b = append(p.b, `","datacontenttype":"application/json","data":{"class_uid":`...)
	p.b = strconv.AppendInt(p.b, k.uid, 10)
	p.num("category_uid", k.uid/1000)
	p.num("activity_id", activity)
	p.num("type_uid", k.uid*100+activity)
	p.num("severity_id", k.severity)
	p.num("time", at.UnixMilli())
	p.raw("metadata", a.metadata)
}

// finish closes the body and the envelope.
func finish(p *pen) {
	p.end()
	p.end()
}

// finishTraced does so and writes the trace, if there is one.
func finishTraced(p *pen, r *http.Request, x *exchange.Exchange) {
	p.end()
	traceparent(p, r, x)
	p.end()
}

// outcome is what became of a request.
type outcome struct {
	// code and room are those of the refusal, if there was one.
	code, room string
	// status is the answer's; zero if there is none.
	status int
	bytes  int64
	took   time.Duration
	// ended says that the request is over, so that the figures mean something;
	// answered that only its answer is about to begin.
	ended, answered bool
	// aborted says that the answer broke off.
	aborted bool
	// attrs are the fact's details as members of a JSON object.
	attrs []byte
}

// request writes one event about r, which a guard refused or which has ended.
func (a *App) request(p *pen, l *lens, k eventKind, at time.Time, r *http.Request, o *outcome) {
	x := exchange.Of(r)
	orig := original(r)
	act := k.activity
	if k.uid == ocsfHTTP {
		act = httpActivity(orig.Method)
	}
	a.begin(p, k, at, act)
	statusOf(p, k, o)
	who(p, l, k, x)
	if ip := l.see(fieldClientIP, clientIP(r)); ip != "" {
		p.open("src_endpoint")
		p.text("ip", ip)
		p.end()
	}
	asked(p, l, r, &orig)
	answered(p, l, o)
	p.open("unmapped")
	gateway(p, l, x, o)
	p.end()
	finishTraced(p, r, x)
}

func statusOf(p *pen, k eventKind, o *outcome) {
	switch {
	case o.code != "":
		p.raw("status_id", "2")
		p.text("status_code", o.code)
		p.raw("action_id", "2")
		p.raw("disposition_id", "2")
	case o.aborted || o.status >= 400:
		p.raw("status_id", "2")
	case o.ended, o.answered:
		p.raw("status_id", "1")
		if k.uid == ocsfHTTP {
			p.raw("action_id", "1")
			p.raw("disposition_id", "1")
		}
	}
}

func who(p *pen, l *lens, k eventKind, x *exchange.Exchange) {
	uid := l.see(fieldSubject, x.Identity.Subject)
	issuer := l.see(fieldIssuer, x.Identity.Issuer)
	token := l.see(fieldTokenID, x.Identity.TokenID)
	if uid == "" && issuer == "" && token == "" {
		return
	}
	if k.uid != ocsfAuthentication {
		p.open("actor")
		defer p.end()
	}
	p.open("user")
	p.text("uid", uid)
	p.text("domain", issuer)
	p.text("credential_uid", token)
	p.end()
}

func asked(p *pen, l *lens, r *http.Request, orig *http.Request) {
	p.open("http_request")
	p.text("http_method", l.see(fieldMethod, orig.Method))
	p.text("version", l.see(fieldProtocol, orig.Proto))
	p.text("user_agent", l.see(fieldUserAgent, r.UserAgent()))
	p.open("url")
	p.text("scheme", l.see(fieldScheme, scheme(r)))
	p.text("hostname", l.see(fieldHost, hostname(orig.Host)))
	if orig.URL != nil {
		p.text("path", l.see(fieldPath, orig.URL.Path))
		p.text("query_string", l.see(fieldQuery, cleanQuery(orig.URL.RawQuery)))
	}
	p.end()
	if len(l.headers) > 0 {
		p.list("http_headers")
		for _, h := range l.headers {
			for _, v := range r.Header[h.name] {
				if v = l.cloak(h.veil, v); v != "" && len(p.b) < maxEvent {
					p.open("")
					p.text("name", h.name)
					p.text("value", v)
					p.end()
				}
			}
		}
		p.endList()
	}
	p.end()
	if len(l.params) > 0 && orig.URL != nil {
		params(p, l, orig.URL)
	}
}

func answered(p *pen, l *lens, o *outcome) {
	p.open("http_response")
	if l.show&fieldStatus != 0 && o.status != 0 {
		p.num("code", int64(o.status))
	}
	if l.show&fieldBytes != 0 && o.ended {
		p.num("length", o.bytes)
	}
	p.end()
	if l.show&fieldDuration != 0 && o.took > 0 {
		p.num("duration", o.took.Milliseconds())
	}
}

func params(p *pen, l *lens, u *url.URL) {
	values := u.Query()
	p.list("query_parameters")
	for _, q := range l.params {
		for _, v := range values[q.name] {
			if v = l.cloak(q.veil, v); v != "" && len(p.b) < maxEvent {
				p.open("")
				p.text("name", q.name)
				p.text("value", v)
				p.end()
			}
		}
	}
	p.endList()
}

// gateway writes what no OCSF attribute stands for.
func gateway(p *pen, l *lens, x *exchange.Exchange, o *outcome) {
	p.text("room", o.room)
	if len(o.attrs) > 0 && len(p.b)+len(o.attrs) < maxEvent {
		p.open("details")
		p.b = append(p.b, o.attrs...)
		p.end()
	}
	if o.aborted {
		p.raw("aborted", "true")
	}
	if o.took > 0 && l.show&fieldDuration != 0 {
		p.num("duration_us", o.took.Microseconds())
	}
	if l.show&fieldZones != 0 && len(x.Zones) > 0 {
		p.list("zones")
		for i := range x.Zones {
			z := &x.Zones[i]
			p.open("")
			p.text("name", z.Name)
			p.text("result", z.Result)
			p.text("source", z.Source)
			p.num("remaining", z.Remaining)
			p.end()
		}
		p.endList()
	}
	if l.show&fieldUpstreams != 0 && len(x.Attempts) > 0 {
		p.list("upstreams")
		for _, at := range x.Attempts {
			p.open("")
			p.text("address", at.Upstream)
			p.num("status", int64(at.Status))
			if at.Err != nil {
				p.text("error", at.Err.Error())
			}
			p.end()
		}
		p.endList()
	}
	if l.show&fieldFallback != 0 {
		p.text("fallback", x.Fallback)
		p.text("fallback_reason", x.FallbackReason)
	}
	if len(l.claims) > 0 && x.Identity.Claims != nil {
		p.open("claims")
		for _, c := range l.claims {
			if v, ok := x.Identity.Claims.Claim(c.name); ok && len(p.b) < maxEvent {
				p.labelled(c.name, l.cloak(c.veil, fmt.Sprint(v)))
			}
		}
		p.end()
	}
}

// attrs writes a fact's details as members of the object that p stands in.
func attrs(p *pen, list []slog.Attr) {
	for _, at := range list {
		if denied(at.Key) {
			continue
		}
		v := at.Value.Resolve()
		switch v.Kind() {
		case slog.KindInt64:
			p.num(at.Key, v.Int64())
		case slog.KindBool, slog.KindUint64:
			p.raw(at.Key, v.String())
		case slog.KindGroup:
			p.open(at.Key)
			attrs(p, v.Group())
			p.end()
		default:
			p.text(at.Key, v.String())
		}
	}
}

// original is the request as the client sent it, before any rewrite.
func original(r *http.Request) http.Request {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return o
	}
	return http.Request{Method: r.Method, URL: r.URL, Host: r.Host, Proto: r.Proto}
}

func clientIP(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		return ip
	}
	return hostname(r.RemoteAddr)
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func hostname(hostport string) string {
	if strings.IndexByte(hostport, ':') < 0 {
		return hostport
	}
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func unescapeName(name string) string {
	if strings.IndexByte(name, '%') < 0 {
		return name
	}
	if plain, err := url.QueryUnescape(name); err == nil {
		return plain
	}
	return name
}

// traceparent names the server span; without one, the caller's.
func traceparent(p *pen, r *http.Request, x *exchange.Exchange) {
	if len(x.TraceID) == 32 && len(x.SpanID) == 16 {
		p.key("traceparent")
		p.b = append(append(p.b, `"00-`...), x.TraceID...)
		p.b = append(append(p.b, '-'), x.SpanID...)
		p.b = append(p.b, `-01"`...)
	} else if tp := r.Header.Get("Traceparent"); validTraceparent(tp) {
		p.text("traceparent", tp)
	}
}

func validTraceparent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	for i, c := range []byte(s) {
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if dash := i == 2 || i == 35 || i == 52; !dash && !hex {
			return false
		}
	}
	return true
}

// release is the version of the module that this program was built from; it is
// the main module, or one of xcaddy's.
func release() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append(build.Deps, &build.Main) {
		if m.Path == "github.com/sallyport-gateway/sallyport" && m.Version != "(devel)" {
			return m.Version
		}
	}
	return ""
}

func metadataOf() string {
	p := pen{}
	p.open("")
	p.text("version", ocsfVersion)
	p.open("product")
	p.text("name", "Sallyport")
	p.text("vendor_name", "Sallyport")
	p.text("version", release())
	p.end()
	p.list("profiles")
	p.item("security_control")
	p.endList()
	p.text("log_name", "audit")
	p.end()
	return string(p.b)
}
