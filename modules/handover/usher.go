package handover

import (
	"bufio"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// usher is the first handler of a server: it sees each request come and go.
type usher Handover

// CaddyModule returns the Caddy module information. The name is a label of
// Caddy's own metrics; the module is not registered, for nobody configures it.
func (*usher) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.handover"}
}

func (u *usher) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.enter(r)
	}
	u.inFlight.Add(1)
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && r.ProtoMajor == 1 {
		upgrade := &upgrader{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, usher: u}
		defer upgrade.end()
		return next.ServeHTTP(upgrade, r)
	}
	defer u.inFlight.Add(-1)
	if u.leaving.Load() || caddy.Exiting() {
		w = &farewell{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	}
	return next.ServeHTTP(w, r)
}

// farewell asks the client to send its next request elsewhere. The header is
// set last, so that no handler takes it for the upstream's. For HTTP/2 net/http
// makes a GOAWAY of it.
type farewell struct {
	*caddyhttp.ResponseWriterWrapper
	said bool
}

func (f *farewell) say() {
	if !f.said {
		f.said = true
		f.Header().Set("Connection", "close")
	}
}

func (f *farewell) WriteHeader(status int) {
	if status >= 200 {
		f.say()
	}
	f.ResponseWriterWrapper.WriteHeader(status)
}

func (f *farewell) Write(p []byte) (int, error) {
	f.say()
	return f.ResponseWriterWrapper.Write(p)
}

func (f *farewell) FlushError() error {
	f.say()
	return http.NewResponseController(f.ResponseWriter).Flush()
}

// upgrader notes the connection of a WebSocket.
type upgrader struct {
	*caddyhttp.ResponseWriterWrapper
	usher  *usher
	tunnel *tunnel
}

func (u *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return c, rw, err
	}
	u.tunnel = &tunnel{Conn: c, of: &u.usher.tunnels, gone: make(chan struct{})}
	u.usher.tunnels.add(u.tunnel)
	u.usher.inFlight.Add(-1)
	return u.tunnel, rw, nil
}

func (u *upgrader) end() {
	if u.tunnel == nil {
		u.usher.inFlight.Add(-1)
		return
	}
	u.tunnel.Close() //nolint:errcheck // closed before, as a rule
}
