package telemetry

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// asked is what a span tells of the request, taken before any handler
// rewrites it. The query is left out: it is where tokens are found.
type asked struct {
	method, path, host, scheme, client, peer, agent string
	proto                                           int
}

func ask(r *http.Request) asked {
	a := asked{method: r.Method, path: withoutTokens(r.URL.Path), host: r.Host, scheme: "http", proto: r.ProtoMajor}
	if r.TLS != nil {
		a.scheme = "https"
	}
	a.client, _ = caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	a.peer, _, _ = net.SplitHostPort(r.RemoteAddr)
	if agent := r.Header["User-Agent"]; len(agent) > 0 {
		a.agent = agent[0]
	}
	return a
}

var protocols = [...]string{"", "1.1", "2", "3"}

// tell writes the server span. It says whether it is on its way.
func (p *passage) tell(took time.Duration, aborted bool, code string) (told bool) {
	w := p.tracer.record()
	p.describe(&w, aborted, code)
	method := methodOf(p.request.method)
	name := methods[method]
	switch {
	case p.route.pattern != "":
		name = p.route.names[method]
	case name == otherMethod:
		name = "HTTP"
	}
	began := p.began.UnixNano()
	return p.tracer.deliver(&w, &head{
		sc: p.span, parent: p.caller, link: p.link, kind: trace.SpanKindServer, name: name,
		began: began, ended: began + int64(took), failed: p.status >= 500 || aborted || grpcFault(code),
	})
}

// describe writes down what was asked, how it went, and what was decided.
func (p *passage) describe(w *wire, aborted bool, code string) {
	a, x := &p.request, p.x
	method := knownMethod(a.method)
	w.text("http.request.method", method)
	if method == otherMethod {
		w.text("http.request.method_original", a.method)
	}
	w.text("url.scheme", a.scheme)
	w.text("url.path", a.path)
	w.server(a.host)
	w.text("client.address", a.client)
	if a.peer != a.client {
		w.text("network.peer.address", a.peer)
	}
	w.text("network.protocol.version", protocols[min(a.proto, len(protocols)-1)])
	w.text("user_agent.original", a.agent)
	w.text("http.route", p.route.pattern)
	if p.status != 0 {
		w.number("http.response.status_code", p.status)
	}
	if p.grpc {
		w.rpc(a.path)
		n, _ := strconv.Atoi(code)
		w.number("rpc.grpc.status_code", n)
	}
	w.text("error.type", p.failure(aborted, code))
	w.text("sallyport.route", p.route.label)
	w.text("sallyport.issuer", x.Identity.Issuer)
	if z := decisive(x.Zones); z != nil {
		w.text("sallyport.zone", z.Name)
		w.text("sallyport.zone.result", z.Result)
		w.text("sallyport.zone.source", z.Source)
	}
	w.text("sallyport.refusal", x.Refusal.Code)
	w.text("sallyport.cache.status", x.Cache.Status)
	w.text("sallyport.cache.reason", x.Cache.Reason)
	w.text("sallyport.fallback", x.Fallback)
	w.text("sallyport.fallback_reason", x.FallbackReason)
	for _, n := range x.Notes {
		w.text("sallyport."+n.Key, n.Value)
	}
}

func (p *passage) failure(aborted bool, code string) string {
	switch {
	case aborted:
		return "aborted"
	case p.x.Refusal.Code != "":
		return p.x.Refusal.Code
	case p.status >= 500:
		return strconv.Itoa(p.status)
	case grpcFault(code):
		return code
	}
	return ""
}

// decisive is the zone that refused, or else the tightest.
func decisive(zones []exchange.Zone) *exchange.Zone {
	var tightest *exchange.Zone
	for i := range zones {
		z := &zones[i]
		if z.Result == "refused" {
			return z
		}
		if tightest == nil || z.Remaining < tightest.Remaining {
			tightest = z
		}
	}
	return tightest
}

// rpc writes what a gRPC path, /service/method, stands for.
func (w *wire) rpc(path string) {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok {
		return
	}
	w.text("rpc.system", "grpc")
	w.text("rpc.service", service)
	w.text("rpc.method", method)
}

func isGRPC(r *http.Request) bool {
	ct := r.Header["Content-Type"]
	return len(ct) == 1 && strings.HasPrefix(ct[0], "application/grpc") && r.ProtoMajor >= 2 &&
		!strings.HasPrefix(ct[0], "application/grpc-web")
}

// grpcCode finds the call's status where it may be: in the header of a
// Trailers-Only answer, or among the trailers, announced or not.
func grpcCode(h http.Header) string {
	for _, name := range [...]string{"Grpc-Status", http.TrailerPrefix + "Grpc-Status"} {
		if v := h[name]; len(v) > 0 {
			if n, err := strconv.Atoi(v[0]); err == nil && n >= 0 && n <= 16 {
				return v[0]
			}
			return "2"
		}
	}
	return "2" // UNKNOWN: the call broke off without a status
}

// grpcFault says whether a status is the service's fault, as the semantic
// conventions have it for servers.
func grpcFault(code string) bool {
	switch code {
	case "2", "4", "12", "13", "14", "15":
		return true
	}
	return false
}

func replacer(r *http.Request) *caddy.Replacer {
	return r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}
