package breaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/breaker/wire"
)

// Transport records how each attempt of an upstream ended. It is put around the
// proxy's own transport by the handler and is not configured by hand.
type Transport struct {
	// InnerRaw is the transport that sends. Default: `http`.
	InnerRaw json.RawMessage `json:"inner,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	inner  http.RoundTripper
	h      *Handler
	direct *wire.Transport             // nil where it is switched off or not exact
	http   *reverseproxy.HTTPTransport // inner, where direct is set
	// proxied says that the configuration names a forward proxy.
	proxied bool
}

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.transport.breaker",
		New: func() caddy.Module { return new(Transport) },
	}
}

// Provision loads the inner transport.
func (t *Transport) Provision(ctx caddy.Context) (err error) {
	if t.h, err = parent(ctx); err != nil {
		return fmt.Errorf("transport breaker %w", err)
	}
	if t.InnerRaw == nil {
		t.InnerRaw = json.RawMessage(`{"protocol":"http"}`)
	}
	raw := t.InnerRaw // loading forgets it
	mod, err := ctx.LoadModule(t, "InnerRaw")
	if err != nil {
		return fmt.Errorf("load transport: %w", err)
	}
	t.inner = mod.(http.RoundTripper)
	return t.provisionDirect(raw)
}

// RoundTrip sends the request and sees to it that its lease ends.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x := crossingOf(req.Context())
	if x == nil {
		return t.inner.RoundTrip(req) // an active health check: not a client's request
	}
	now := time.Now()
	if x.chosen == nil && !x.lendDialed(req, now) {
		x.stopped = circuitOpen
		return nil, errShut
	}
	x.stopped = ""
	if x.h.hedges(req) {
		return t.race(x, req, now)
	}
	try := x.begin(req, now)
	res, err := t.send(req)
	if err == nil && !x.clock.reached() {
		_ = res.Body.Close() // nobody waits for it any more
		err = errDeadline
	}
	if err != nil {
		return nil, try.failed(err)
	}
	try.answered(res)
	return res, nil
}

// lendDialed takes the lease of an upstream whose address was not known before:
// one with placeholders.
func (x *crossing) lendDialed(req *http.Request, now time.Time) bool {
	di, ok := reverseproxy.GetDialInfo(req.Context())
	if !ok {
		return true
	}
	return x.lend(&reverseproxy.Upstream{Dial: di.String()}, now)
}

// shutError refuses an upstream inside the transport. The proxy reads it as a
// failure to dial, so that it tries another upstream whatever the method, and
// ends with 503 if there is none.
type shutError struct {
	dial   reverseproxy.DialError
	status caddyhttp.HandlerError
}

func (shutError) Error() string     { return "circuit open" }
func (e shutError) Unwrap() []error { return []error{e.dial, e.status} }

var errShut = shutError{
	dial:   reverseproxy.NewDialError(errors.New("circuit open")),
	status: caddyhttp.HandlerError{StatusCode: http.StatusServiceUnavailable, Err: errors.New("circuit open")},
}

// What follows lets the proxy see the inner transport's abilities. Where it has
// none, the answer is the one the proxy assumes in their absence.

// TLSEnabled implements reverseproxy.TLSTransport.
func (t *Transport) TLSEnabled() bool {
	inner, ok := t.inner.(reverseproxy.TLSTransport)
	return ok && inner.TLSEnabled()
}

// EnableTLS implements reverseproxy.TLSTransport.
func (t *Transport) EnableTLS(base *reverseproxy.TLSConfig) error {
	if inner, ok := t.inner.(reverseproxy.TLSTransport); ok {
		return inner.EnableTLS(base)
	}
	return fmt.Errorf("transport %T does not support TLS", t.inner)
}

// EnableH2C implements reverseproxy.H2CTransport.
func (t *Transport) EnableH2C() error {
	if inner, ok := t.inner.(reverseproxy.H2CTransport); ok {
		return inner.EnableH2C()
	}
	return fmt.Errorf("transport %T does not support H2C", t.inner)
}

// ProxyProtocolEnabled implements reverseproxy.ProxyProtocolTransport.
func (t *Transport) ProxyProtocolEnabled() bool {
	inner, ok := t.inner.(reverseproxy.ProxyProtocolTransport)
	return ok && inner.ProxyProtocolEnabled()
}

// OverrideHealthCheckScheme implements reverseproxy.HealthCheckSchemeOverriderTransport.
func (t *Transport) OverrideHealthCheckScheme(base *url.URL, port string) {
	if inner, ok := t.inner.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		inner.OverrideHealthCheckScheme(base, port)
	}
}

// RequiresContentLength implements reverseproxy.ContentLengthRequiredTransport.
func (t *Transport) RequiresContentLength() bool {
	inner, ok := t.inner.(reverseproxy.ContentLengthRequiredTransport)
	return ok && inner.RequiresContentLength()
}

// DefaultBufferSizes implements reverseproxy.BufferedTransport.
func (t *Transport) DefaultBufferSizes() (request, response int64) {
	if inner, ok := t.inner.(reverseproxy.BufferedTransport); ok {
		return inner.DefaultBufferSizes()
	}
	return 0, 0
}

// RequestHeaderOps implements reverseproxy.RequestHeaderOpsTransport.
func (t *Transport) RequestHeaderOps() *headers.HeaderOps {
	if inner, ok := t.inner.(reverseproxy.RequestHeaderOpsTransport); ok {
		return inner.RequestHeaderOps()
	}
	return nil
}

var (
	_ caddy.Provisioner                                = (*Transport)(nil)
	_ http.RoundTripper                                = (*Transport)(nil)
	_ reverseproxy.TLSTransport                        = (*Transport)(nil)
	_ reverseproxy.H2CTransport                        = (*Transport)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*Transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*Transport)(nil)
	_ reverseproxy.ContentLengthRequiredTransport      = (*Transport)(nil)
	_ reverseproxy.BufferedTransport                   = (*Transport)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*Transport)(nil)
)
