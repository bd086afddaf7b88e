package breaker

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"
)

// fields are the maps that outgoing requests have their fields in. The codec
// has read them when it returns, so each is used again.
var fields = sync.Pool{New: func() any { return make(http.Header, 24) }}

// letGo gives the map of fields back.
func (f *forwarding) letGo() {
	for _, h := range []http.Header{f.out.Header, f.prepared} {
		if h != nil {
			clear(h)
			fields.Put(h)
		}
	}
	f.out.Header, f.prepared = nil, nil
}

// prepare makes the request that is sent from r, which it leaves as it is. It
// follows reverse_proxy's prepareRequest step by step.
func (f *forwarding) prepare(r *http.Request, vars map[string]any) bool {
	out := &f.out
	*out = *r
	f.url = *r.URL
	f.url.Scheme, f.url.Host = "http", "upstream" // each attempt puts its own here
	out.URL = &f.url
	out.Close = false
	h := fields.Get().(http.Header)
	out.Header = h
	for name, values := range r.Header {
		if !isHop(name) {
			h[name] = values
		}
	}
	if out.ContentLength == 0 {
		out.Body = nil
	}
	if out.Body != nil {
		f.body.wrap(r, out)
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = none // else the codec would say its own
	}
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		h["Early-Data"] = early
	}
	for _, list := range r.Header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	if te := r.Header["Te"]; te != nil && httpguts.HeaderValuesContainsToken(te, "trailers") && !isNominated(r.Header["Connection"], "Te") {
		h["Te"] = trailers
	}
	f.forwarded(r, vars[caddyhttp.TrustedProxyVarKey] == true)
	f.append("Via", 3, version(r.ProtoMajor, r.ProtoMinor))
	return f.l.direct.Fits(out) && f.l.reaches() && !f.h.hedges(out)
}

// What nobody writes to may be shared by all requests.
var (
	none     = []string{""}
	early    = []string{"1"}
	trailers = []string{"trailers"}
)

// isHop says that a field is for one connection only: reverse_proxy's list.
func isHop(name string) bool {
	switch name {
	case "Alt-Svc", "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// isNominated says that the Connection field names the field.
func isNominated(connection []string, name string) bool {
	for _, list := range connection {
		for named := range strings.SplitSeq(list, ",") {
			if http.CanonicalHeaderKey(textproto.TrimString(named)) == name {
				return true
			}
		}
	}
	return false
}

// set gives the request a field of one value, without an allocation.
func (f *forwarding) set(name string, slot int, value string) {
	f.own[slot][0] = value
	f.out.Header[name] = f.own[slot][:]
}

// append adds a value to a field and leaves the values that are there alone:
// they are the client's request's.
func (f *forwarding) append(name string, slot int, value string) {
	if before := f.out.Header[name]; len(before) > 0 {
		f.out.Header[name] = append(slices.Clip(before), value)
		return
	}
	f.set(name, slot, value)
}

// version is what stands in Via.
func version(major, minor int) string {
	switch {
	case major == 1 && minor == 1:
		return "1.1 Caddy"
	case major == 2 && minor == 0:
		return "2.0 Caddy"
	}
	return strconv.Itoa(major) + "." + strconv.Itoa(minor) + " Caddy"
}

// forwarded writes the X-Forwarded fields. What the client says of itself in
// them holds only if it is a trusted proxy.
func (f *forwarding) forwarded(r *http.Request, trusted bool) {
	h := f.out.Header
	var client string
	if r.RemoteAddr == "@" { // a Unix socket has no peer to name
		if !trusted {
			f.unforwarded()
			return
		}
	} else {
		var err error
		if client, _, err = net.SplitHostPort(r.RemoteAddr); err != nil {
			f.unforwarded()
			return
		}
		client, _, _ = strings.Cut(client, "%")
		trusted = trusted || f.l.trusts(client)
	}
	if prior, ok := h["X-Forwarded-For"]; !ok || prior != nil { // a nil one is not to be sent
		before := strings.Join(prior, ", ")
		switch {
		case trusted && before != "" && client != "":
			f.set("X-Forwarded-For", 0, before+", "+client)
		case trusted && before != "":
			f.set("X-Forwarded-For", 0, before)
		case client != "":
			f.set("X-Forwarded-For", 0, client)
		}
	}
	scheme := "https"
	if r.TLS == nil {
		scheme = "http"
	}
	f.newest("X-Forwarded-Proto", 1, scheme, trusted)
	f.newest("X-Forwarded-Host", 2, r.Host, trusted)
}

func (f *forwarding) unforwarded() {
	delete(f.out.Header, "X-Forwarded-For")
	delete(f.out.Header, "X-Forwarded-Proto")
	delete(f.out.Header, "X-Forwarded-Host")
}

// newest sets a field to value, or to the last one that a trusted proxy gave.
func (f *forwarding) newest(name string, slot int, value string, trusted bool) {
	prior, ok := f.out.Header[name]
	if ok && prior == nil {
		return
	}
	if n := len(prior); trusted && n > 0 && prior[n-1] != "" {
		value = prior[n-1]
	}
	f.set(name, slot, value)
}

// trusts says that the proxy's own trusted_proxies name the address.
func (l *lean) trusts(client string) bool {
	if len(l.trusted) == 0 {
		return false
	}
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(l.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// uploaded is the body of a request. A failure to connect does not close it, so
// that the next attempt finds it whole; and the trailers that come after it go
// on to the upstream.
type uploaded struct {
	io.ReadCloser
	read    int // -1: there was nothing in it
	from    *http.Request
	trailer http.Header
}

func (b *uploaded) wrap(r, out *http.Request) {
	b.ReadCloser, b.from = r.Body, r
	if out.ContentLength < 0 {
		b.trailer = make(http.Header)
		out.Trailer = b.trailer
	}
}

// reset puts the body back where an attempt has put its own around it.
func (b *uploaded) reset(out *http.Request) {
	if b.ReadCloser != nil {
		out.Body = b
	}
}

func (b *uploaded) Read(p []byte) (int, error) {
	if b.read == -1 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && b.trailer != nil && b.from != nil {
		for name, values := range b.from.Trailer {
			b.trailer[name] = slices.Clone(values)
		}
		b.from = nil
	}
	if b.read == 0 && n == 0 && err == io.EOF {
		b.read = -1
	} else {
		b.read += n
	}
	return n, err
}

func (b *uploaded) Close() error {
	if b.read == 0 {
		return nil
	}
	return b.ReadCloser.Close()
}
