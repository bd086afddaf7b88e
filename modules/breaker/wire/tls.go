package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"syscall"
)

// secure shakes hands over a new connection, as base would.
func (t *Transport) secure(ctx context.Context, n net.Conn, addr string) (*tls.Conn, error) {
	config := t.config.Clone()
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			_ = n.Close()
			return nil, err
		}
		config.ServerName = host
	}
	bounded := ctx
	if d := t.base.TLSHandshakeTimeout; d > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeoutCause(ctx, d, handshakeTimeout{})
		defer cancel()
	}
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	c := tls.Client(newGate(n), config)
	err := c.HandshakeContext(bounded)
	if err != nil {
		_ = n.Close()
		if bounded.Err() != nil {
			err = context.Cause(bounded)
		}
	}
	if trace != nil && trace.TLSHandshakeDone != nil {
		state := tls.ConnectionState{}
		if err == nil {
			state = c.ConnectionState()
		}
		trace.TLSHandshakeDone(state, err)
	}
	return c, err
}

// ErrSpeaks ends a handshake in which the upstream chose a protocol that is
// net/http's.
var ErrSpeaks = errors.New("the upstream speaks another protocol")

// elsewhere says that what a handshake agreed on is not done here.
func (t *Transport) elsewhere(state tls.ConnectionState) bool {
	p := state.NegotiatedProtocol
	return p != "" && t.base.TLSNextProto[p] != nil
}

// Heard learns from an answer of the other transport whether its upstream, who
// could have chosen HTTP/2, speaks HTTP/1.1: then Does accepts the next request.
func (t *Transport) Heard(req *http.Request, res *http.Response) {
	if t.offers && req.URL.Scheme == "https" && res.TLS != nil && req.Header["Upgrade"] == nil {
		t.pool.heard(req.URL.Host, res.ProtoMajor == 1 && !t.elsewhere(*res.TLS))
	}
}

// mostHosts bounds what is known of hosts: those with placeholders come with requests.
const mostHosts = 4096

// heard notes whether host speaks HTTP/1.1 where it has the choice.
func (p *Pool) heard(host string, plain bool) {
	if p.plain(host) == plain {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := map[string]bool{}
	if old := p.spoken.Load(); old != nil && len(*old) < mostHosts {
		next = maps.Clone(*old)
	}
	if delete(next, host); plain {
		next[host] = true
	}
	p.spoken.Store(&next)
}

func (p *Pool) plain(host string) bool {
	known := p.spoken.Load()
	return known != nil && (*known)[host]
}

// adopt returns the number of a TLS configuration. A connection is used only by
// whoever would have been let in by the same certificates and the same trust: the
// files that a configuration names may have changed since.
func (p *Pool) adopt(config *tls.Config) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config == nil || !alike(p.config, config) {
		p.config = config.Clone()
		p.number++
	}
	return p.number
}

// alike says that two configurations made from the same settings are the same in
// what the settings name. What cannot be compared is different.
func alike(a, b *tls.Config) bool {
	return a.GetClientCertificate == nil && b.GetClientCertificate == nil &&
		a.VerifyPeerCertificate == nil && b.VerifyPeerCertificate == nil &&
		a.VerifyConnection == nil && b.VerifyConnection == nil &&
		a.ServerName == b.ServerName && a.InsecureSkipVerify == b.InsecureSkipVerify &&
		(a.RootCAs == b.RootCAs || a.RootCAs != nil && b.RootCAs != nil && a.RootCAs.Equal(b.RootCAs)) &&
		slices.EqualFunc(a.Certificates, b.Certificates, func(a, b tls.Certificate) bool {
			return slices.EqualFunc(a.Certificate, b.Certificate, slices.Equal)
		})
}

// gate is the socket under a TLS connection. While it is probed, reading takes
// what has come and does not wait for more.
type gate struct {
	net.Conn
	raw  syscall.RawConn
	take func(fd uintptr) bool

	probed bool
	into   []byte // where take puts what it reads
	n      int
	err    error
}

func newGate(n net.Conn) *gate {
	g := &gate{Conn: n}
	if s, ok := n.(syscall.Conn); ok {
		g.raw, _ = s.SyscallConn()
	}
	g.take = g.read
	return g
}

func (g *gate) Read(p []byte) (int, error) {
	if !g.probed {
		return g.Conn.Read(p)
	}
	if g.raw == nil {
		return 0, io.ErrUnexpectedEOF
	}
	g.into, g.n, g.err = p, 0, nil
	err := g.raw.Read(g.take)
	g.into = nil
	if err != nil {
		return 0, err
	}
	return g.n, g.err
}

// quiet says that nothing but TLS's own messages came over an idle connection:
// tickets and new keys are no business of HTTP, and are read here. What TLS has
// taken from the socket already is seen as well.
func (g *gate) quiet(c *tls.Conn) bool {
	g.probed = true
	defer func() { g.probed = false }()
	var one [1]byte
	n, err := c.Read(one[:])
	return n == 0 && err == errQuiet
}

// errQuiet is what a probe reads where nothing came. TLS takes only the errors
// that are not temporary as the end of the connection.
var errQuiet net.Error = quietError{}

type quietError struct{}

func (quietError) Error() string   { return "nothing came" }
func (quietError) Timeout() bool   { return true }
func (quietError) Temporary() bool { return true }

// handshakeTimeout is net/http's error of a handshake that takes too long.
type handshakeTimeout struct{}

func (handshakeTimeout) Error() string   { return "net/http: TLS handshake timeout" }
func (handshakeTimeout) Timeout() bool   { return true }
func (handshakeTimeout) Temporary() bool { return true }
