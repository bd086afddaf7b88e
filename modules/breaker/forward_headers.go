package breaker

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// What header_up and header_down say is done by Caddy's own code, to fields of
// our own: a value may be any placeholder.

// provisionHeaders takes over what the proxy does to fields.
func (l *lean) provisionHeaders(ctx caddy.Context, t *Transport) error {
	if ops := t.RequestHeaderOps(); ops != nil {
		if err := ops.Provision(ctx); err != nil {
			return err
		}
		l.up = append(l.up, ops)
	}
	if h := l.proxy.Headers; h != nil {
		if h.Request != nil {
			l.up = append(l.up, h.Request)
		}
		l.down = h.Response
	}
	return nil
}

// asking are the fields by which a request asks for more than forwarding.
var asking = []string{"Connection", "Expect", "Incremental", "Upgrade"}

// exactHeaders says why the fields that are given to a request may make it one
// that is not plain any more.
func exactHeaders(ops *headers.HeaderOps) error {
	if ops == nil {
		return nil
	}
	for _, given := range []http.Header{ops.Add, ops.Set} {
		for name := range given {
			switch {
			case strings.Contains(name, "{"):
				return errors.New("header_up names a field by a placeholder")
			case slices.Contains(asking, http.CanonicalHeaderKey(name)):
				return fmt.Errorf("header_up sets %s", name)
			}
		}
	}
	return nil
}

// change gives the attempt fields of its own and does to them what header_up
// says. Whatever it makes of them, the next attempt begins with the same.
func (f *forwarding) change() {
	if len(f.l.up) == 0 {
		return
	}
	if f.prepared == nil {
		f.prepared, f.host = f.out.Header, f.out.Host
		f.out.Header = fields.Get().(http.Header)
	}
	own := f.out.Header
	clear(own)
	n := 0
	for _, values := range f.prepared {
		n += len(values)
	}
	room := make([]string, 0, n)
	for name, values := range f.prepared {
		if len(values) == 0 {
			continue
		}
		name = http.CanonicalHeaderKey(name)
		if before := own[name]; before != nil {
			own[name] = append(before, values...)
			continue
		}
		start := len(room)
		room = append(room, values...)
		own[name] = room[start:len(room):len(room)]
	}
	f.out.Host = f.host
	for _, ops := range f.l.up {
		ops.ApplyToRequest(&f.out)
	}
}

// changed are the fields that the client gets where header_down may change them,
// else nil. The answer keeps its own, which placeholders tell.
func (f *forwarding) changed(res *http.Response) http.Header {
	ops := f.l.down
	if ops == nil {
		return nil
	}
	connection := res.Header["Connection"]
	h := make(http.Header, len(res.Header))
	for name, values := range res.Header {
		if !isHop(name) && !isNominated(connection, name) {
			h[name] = slices.Clone(values)
		}
	}
	if ops.Require == nil || ops.Require.Match(res.StatusCode, h) {
		repl, _ := f.out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		ops.ApplyTo(h, repl)
	}
	return h
}
