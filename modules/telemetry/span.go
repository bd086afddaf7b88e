package telemetry

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// asked is what a span tells of the request, taken before any handler
// rewrites it. The query is left out: it is where tokens are found.
type asked struct {
	method, path, host, scheme, client, peer, agent string
	proto                                           int
}

func ask(r *http.Request) asked {
	a := asked{method: r.Method, path: r.URL.Path, host: r.Host, scheme: "http", proto: r.ProtoMajor}
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

// clean returns s as protobuf takes it. One crooked path or user agent would
// otherwise have the exporter fail with its whole batch.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// tell writes down what was asked, how it went, and what was decided.
func (p *passage) tell(aborted bool, code string) {
	a, x := &p.request, p.x
	method := knownMethod(a.method)
	name := method
	attrs := make([]attribute.KeyValue, 0, 24)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, attribute.String(key, clean(value)))
		}
	}
	add("http.request.method", method)
	if method == otherMethod {
		add("http.request.method_original", a.method)
		name = "HTTP"
	}
	add("url.scheme", a.scheme)
	add("url.path", a.path)
	attrs = appendServer(attrs, a.host)
	add("client.address", a.client)
	if a.peer != a.client {
		add("network.peer.address", a.peer)
	}
	add("network.protocol.version", protocols[min(a.proto, len(protocols)-1)])
	add("user_agent.original", a.agent)
	if p.route.pattern != "" {
		name = p.route.names[methodOf(a.method)]
		add("http.route", p.route.pattern)
	}
	if p.status != 0 {
		attrs = append(attrs, attribute.Int("http.response.status_code", p.status))
	}
	if p.grpc {
		attrs = appendRPC(attrs, a.path)
		n, _ := strconv.Atoi(code)
		attrs = append(attrs, attribute.Int("rpc.grpc.status_code", n))
	}
	add("error.type", p.failure(aborted, code))
	add("sallyport.route", p.route.label)
	add("sallyport.issuer", x.Identity.Issuer)
	if z := decisive(x.Zones); z != nil {
		add("sallyport.zone", z.Name)
		add("sallyport.zone.result", z.Result)
		add("sallyport.zone.source", z.Source)
	}
	add("sallyport.refusal", x.Refusal.Code)
	add("sallyport.cache.status", x.Cache.Status)
	add("sallyport.fallback", x.Fallback)
	add("sallyport.fallback_reason", x.FallbackReason)
	for _, n := range x.Notes {
		add("sallyport."+n.Key, n.Value)
	}
	p.span.SetName(name)
	p.span.SetAttributes(attrs...)
	if p.status >= 500 || aborted || grpcFault(code) {
		p.span.SetStatus(codes.Error, "")
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

// appendRPC appends what a gRPC path, /service/method, stands for.
func appendRPC(attrs []attribute.KeyValue, path string) []attribute.KeyValue {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok {
		return attrs
	}
	return append(attrs, attribute.String("rpc.system", "grpc"),
		attribute.String("rpc.service", clean(service)), attribute.String("rpc.method", clean(method)))
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
