package keyset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
)

var errAddress = errors.New("address is not allowed")

// Transport returns a transport that connects to allowed addresses only.
//
// Without a proxy each address is checked at the moment of connecting, when
// the name is resolved: a check of the URL alone falls to DNS rebinding. An
// address that the operator wrote into the URL is meant; what a name resolves
// to, and what a document of the issuer names, is not.
//
// With a proxy the addresses connected to are the proxy's, which the operator
// wrote, and names are resolved over there, where nothing can be checked from
// here. What is left to check are addresses that the URL itself holds.
func (h *HTTP) Transport() *http.Transport {
	t := &http.Transport{
		TLSClientConfig:        h.TLS,
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
	direct := net.Dialer{Timeout: dialTimeout, Control: h.control}
	t.DialContext = direct.DialContext
	if h.Proxy == nil {
		return t
	}
	proxies := &sync.Map{} // host:port of those asked for
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		proxy, err := h.Proxy(r)
		if err != nil || proxy == nil {
			return nil, err
		}
		if ip, err := netip.ParseAddr(r.URL.Hostname()); err == nil {
			if err := h.allow(ip); err != nil {
				return nil, err
			}
		}
		proxies.Store(hostPort(proxy), nil)
		return proxy, nil
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if _, meant := proxies.Load(address); meant {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
		}
		return direct.DialContext(ctx, network, address)
	}
	return t
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (h *HTTP) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %v", errAddress, err)
	}
	return h.allow(to.Addr())
}

// allow says why the address is not one to connect to.
func (h *HTTP) allow(ip netip.Addr) error {
	ip = ip.Unmap().WithZone("")
	host := ""
	if u, err := url.Parse(h.URL); err == nil {
		host = u.Hostname()
	}
	written, _ := netip.ParseAddr(host)
	switch {
	case never(ip):
		return fmt.Errorf("%w: %s is link-local, multicast or unspecified", errAddress, ip)
	case !internal(ip), h.Private, ip == written.Unmap(), isLoopback(host) && ip.IsLoopback():
		return nil
	}
	return fmt.Errorf("%w: %s is on a private network, which the option 'private' allows", errAddress, ip)
}

var (
	sharedSpace   = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, carrier-grade NAT
	thisNetwork   = netip.MustParsePrefix("0.0.0.0/8")
	nat64         = netip.MustParsePrefix("64:ff9b::/96") // may lead to any IPv4 address
	cloudMetadata = netip.MustParseAddr("fd00:ec2::254")
)

// never are addresses where no issuer lives, but the metadata services of
// clouds do.
func never(ip netip.Addr) bool {
	return ip.IsLinkLocalUnicast() || ip.IsMulticast() || thisNetwork.Contains(ip) || ip.IsUnspecified() || ip == cloudMetadata
}

func internal(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsPrivate() || sharedSpace.Contains(ip) || nat64.Contains(ip)
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
