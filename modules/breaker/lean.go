package breaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/breaker/wire"
)

// lean forwards plain requests in the proxy's place. It does to a request and
// its answer what reverse_proxy does, on the request's goroutine and without
// copying what nobody changes; docs/decisions/0009 says why there is one.
// Everything in it is known when the configuration is loaded.
type lean struct {
	proxy    *reverseproxy.Handler
	selector *Selector
	direct   *wire.Transport
	ctx      caddy.Context // of the configuration: a retry does not outwait it
	logger   *zap.Logger   // the proxy's own name
	trusted  []netip.Prefix
	hops     map[*reverseproxy.Upstream]*hop
	up       []*headers.HeaderOps // the transport's and the operator's, in this order
	down     *headers.RespHeaderOps
}

// hop is one upstream and how it is reached.
type hop struct {
	reverseproxy.DialInfo
	scheme string
	inside *atomic.Int64 // requests under way by this or another lean proxy
}

// inside counts the requests to one address, over reloads. The proxy's own
// count cannot be added to from outside.
type inside struct{ atomic.Int64 }

// Destruct has nothing to end.
func (*inside) Destruct() error { return nil }

type insideKey string

// provisionLean sets up the forwarding of plain requests where that is exact,
// and else remembers why it is not.
func (h *Handler) provisionLean(ctx caddy.Context) error {
	if why := h.exact(); why != nil {
		h.giveUpLean(why.Error())
		return nil
	}
	t := h.proxy.Transport.(*Transport)
	l := &lean{
		proxy: h.proxy, selector: h.proxy.LoadBalancing.SelectionPolicy.(*Selector), direct: t.direct, ctx: ctx,
		logger: ctx.Logger(h.proxy), hops: make(map[*reverseproxy.Upstream]*hop, len(h.proxy.Upstreams)),
	}
	if err := l.provisionHeaders(ctx, t); err != nil {
		return err
	}
	for _, cidr := range h.proxy.TrustedProxies {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			addr, err := netip.ParseAddr(cidr)
			if err != nil {
				return fmt.Errorf("trusted_proxies: %w", err) // the proxy has refused it by now
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		l.trusted = append(l.trusted, prefix)
	}
	for _, u := range h.proxy.Upstreams {
		hop, err := newHop(u, t)
		if err != nil {
			h.giveUpLean(err.Error())
			return nil
		}
		k := insideKey(hop.Address)
		v, _, err := pool.LoadOrNew(k, func() (caddy.Destructor, error) { return new(inside), nil })
		if err != nil {
			return err
		}
		h.taken = append(h.taken, k)
		hop.inside = &v.(*inside).Int64
		l.hops[u] = hop
	}
	h.lean.Store(l)
	return nil
}

// giveUpLean has reverse_proxy forward all requests.
func (h *Handler) giveUpLean(why string) {
	h.leanNot.Store(new(errors.New(why)))
	h.lean.Store(nil)
}

// newHop resolves what reverse_proxy resolves anew for every request.
func newHop(u *reverseproxy.Upstream, t *Transport) (*hop, error) {
	addr, err := caddy.ParseNetworkAddress(u.Dial)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", u.Dial, err)
	}
	if addr.PortRangeSize() != 1 {
		return nil, fmt.Errorf("upstream %s stands for several", u.Dial)
	}
	if addr.Network != "tcp" {
		return nil, fmt.Errorf("upstream %s is reached by %s", u.Dial, addr.Network)
	}
	hop := &hop{DialInfo: reverseproxy.DialInfo{
		Upstream: u, Network: addr.Network, Address: addr.JoinHostPort(0), Host: addr.Host, Port: strconv.Itoa(int(addr.StartPort)),
	}}
	req := &http.Request{URL: &url.URL{Host: hop.Address}}
	t.http.SetScheme(req)
	hop.scheme = req.URL.Scheme
	via, err := http.ProxyFromEnvironment(req)
	if via != nil || err != nil {
		return nil, fmt.Errorf("upstream %s is reached through the forward proxy of the environment", u.Dial)
	}
	return hop, nil
}

// reaches says that all the upstreams are reached by the codec. One that may
// choose HTTP/2 is so once it has chosen HTTP/1.1.
func (l *lean) reaches() bool {
	for _, hop := range l.hops {
		if !l.direct.Reaches(hop.scheme, hop.Address) {
			return false
		}
	}
	return true
}

// exact says what, if anything, keeps the configuration from being forwarded
// lean: whatever reverse_proxy is told to do besides forwarding.
func (h *Handler) exact() error {
	p := h.proxy
	t, ok := p.Transport.(*Transport)
	switch {
	case h.Lean == "off":
		return errors.New("switched off")
	case h.Direct == "off":
		return errors.New("direct is off")
	case !ok || t.direct == nil:
		return errors.New("the transport is not the direct one")
	case t.http.TLS != nil && !t.direct.Secures():
		return errors.New("the TLS of the upstreams is net/http's to do")
	case t.proxied:
		return errors.New("the upstreams are reached through a forward proxy")
	case p.DynamicUpstreams != nil:
		return errors.New("upstreams are dynamic")
	case p.Rewrite != nil:
		return errors.New("method or rewrite is set")
	case len(p.HandleResponse) != 0:
		return errors.New("handle_response, replace_status or intercepting is set")
	case p.RequestBuffers != 0 || p.ResponseBuffers != 0:
		return errors.New("request_buffers or response_buffers is set")
	case p.VerboseLogs:
		return errors.New("verbose_logs is set")
	case len(p.LoadBalancing.RetryMatch) != 0:
		return errors.New("lb_retry_match is set")
	}
	for _, u := range p.Upstreams {
		if strings.ContainsAny(u.Dial, "{}") {
			return fmt.Errorf("upstream %s holds a placeholder", u.Dial)
		}
	}
	if p.Headers != nil {
		if err := exactHeaders(p.Headers.Request); err != nil {
			return err
		}
	}
	return h.countsInside()
}

// countsInside says why the proxy must see all the requests to its upstreams:
// it counts them where nobody else can.
func (h *Handler) countsInside() error {
	if hc := h.proxy.HealthChecks; hc != nil && hc.Passive != nil {
		return errors.New("unhealthy_request_count counts requests inside reverse_proxy")
	}
	for _, u := range h.proxy.Upstreams {
		if u.MaxRequests != 0 {
			return fmt.Errorf("max_requests of upstream %s counts requests inside reverse_proxy", u.Dial)
		}
	}
	return exactPolicy(h.policyRaw)
}

// exactPolicies look at nothing but the request, the answer and who is available.
var exactPolicies = []string{
	"random", "round_robin", "weighted_round_robin", "first", "ip_hash", "client_ip_hash", "uri_hash", "query", "header", "cookie",
}

// exactPolicy looks at the stock policy and those that it falls back to.
func exactPolicy(raw json.RawMessage) error {
	for raw != nil {
		var of struct {
			Policy   string          `json:"policy"`
			Fallback json.RawMessage `json:"fallback"`
		}
		if err := json.Unmarshal(raw, &of); err != nil {
			return fmt.Errorf("selection policy: %w", err)
		}
		if !slices.Contains(exactPolicies, of.Policy) {
			return fmt.Errorf("the selection policy %s may count requests inside reverse_proxy", of.Policy)
		}
		raw = of.Fallback
	}
	return nil
}
