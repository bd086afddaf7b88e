package keyset

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

var errAddress = errors.New("address is not allowed")

// Dialer checks each address at the moment of connecting, when the name is
// resolved: a check of the URL alone falls to DNS rebinding. An address that
// the operator wrote into the URL is meant; what a name resolves to is not.
func (h *HTTP) Dialer(u *url.URL) *net.Dialer {
	written, _ := netip.ParseAddr(u.Hostname())
	localhost := isLoopback(u.Hostname())
	return &net.Dialer{Timeout: dialTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %v", errAddress, err)
		}
		ip := to.Addr().Unmap().WithZone("")
		switch {
		case never(ip):
			return fmt.Errorf("%w: %s is link-local, multicast or unspecified", errAddress, ip)
		case !internal(ip), h.Private, ip == written.Unmap(), localhost && ip.IsLoopback():
			return nil
		}
		return fmt.Errorf("%w: %s is on a private network, which the option 'private' allows", errAddress, ip)
	}}
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
