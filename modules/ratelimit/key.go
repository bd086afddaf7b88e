package ratelimit

import (
	"crypto/sha256"
	"net/netip"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// template is a key such as `{http.auth.user.id} {http.vars.client_ip}`, cut
// into literals and placeholders once.
type template struct {
	parts      []part
	ipv4, ipv6 int
	same       string // the key, where it is the same for every request
}

type part struct {
	text        string
	placeholder bool
}

// longest is how long a local key may be before only its digest is kept: what
// a request sends must not decide how much memory it takes.
const longest = 128

func newTemplate(text string, ipv4, ipv6 int) template {
	t := template{ipv4: ipv4, ipv6: ipv6}
	for text != "" {
		open := strings.IndexByte(text, '{')
		end := -1
		if open >= 0 {
			end = strings.IndexByte(text[open:], '}')
		}
		if end < 0 {
			t.parts = append(t.parts, part{text: text})
			break
		}
		if open > 0 {
			t.parts = append(t.parts, part{text: text[:open]})
		}
		t.parts = append(t.parts, part{text: text[open+1 : open+end], placeholder: true})
		text = text[open+end+1:]
	}
	if len(t.parts) == 1 && !t.parts[0].placeholder {
		t.same = digestLong(t.parts[0].text)
	}
	return t
}

// fill returns the key of one request, and whether none of its placeholders
// was empty. Where there are several parts each value carries its length, so
// that no two pairs of values make the same key.
func (t *template) fill(repl *caddy.Replacer) (key string, whole bool) {
	if t.same != "" {
		return t.same, true
	}
	if len(t.parts) == 1 && t.parts[0].placeholder {
		value, _ := repl.GetString(t.parts[0].text)
		return digestLong(t.group(value)), value != ""
	}
	whole = true
	var b []byte
	for _, p := range t.parts {
		if !p.placeholder {
			b = append(b, p.text...)
			continue
		}
		value, _ := repl.GetString(p.text)
		whole = whole && value != ""
		value = t.group(value)
		b = strconv.AppendInt(b, int64(len(value)), 10)
		b = append(b, ':')
		b = append(b, value...)
	}
	return digestLong(string(b)), whole
}

// group maps an address to its network, since one caller may own a whole /64.
// Addresses that stand for an IPv4 address count as that one.
func (t *template) group(value string) string {
	v6 := strings.IndexByte(value, ':') >= 0
	if len(value) > 64 || !v6 && t.ipv4 == 32 {
		return value
	}
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return value
	}
	addr = embedded(addr.WithZone(""))
	bits := t.ipv6
	if addr.Is4() {
		bits = t.ipv4
	}
	if bits == addr.BitLen() {
		return addr.String()
	}
	network, err := addr.Prefix(bits)
	if err != nil {
		return value
	}
	return network.String()
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// embedded returns the IPv4 address that an IPv6 address carries, if it does.
func embedded(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	b := addr.As16()
	switch {
	case addr.Is4():
		return addr
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return addr
}

func digestLong(key string) string {
	if len(key) <= longest {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return string(sum[:])
}
