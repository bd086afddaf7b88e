package handover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// network is how Caddy names listeners that outlive their configuration.
// Caddy's own `tcp` opens a socket for each configuration and closes the old
// one with whatever the kernel has queued on it.
const network = "handover"

func init() {
	for _, suffix := range []string{"", "4", "6"} {
		caddy.RegisterNetwork(network+suffix, func(ctx context.Context, _, host, ports string, offset uint, cfg net.ListenConfig) (any, error) {
			first, _, _ := strings.Cut(ports, "-")
			port, err := strconv.ParseUint(first, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("port '%s': %w", ports, err)
			}
			return listen(ctx, suffix, net.JoinHostPort(host, strconv.FormatUint(port+uint64(offset), 10)), cfg)
		})
		caddyhttp.RegisterNetworkHTTP3(network+suffix, "udp"+suffix)
	}
}

func key(network, address string) string { return network + "/" + address }

// sockets holds a *socket for each address that a configuration listens on.
var sockets = caddy.NewUsagePool()

// socket is a listening socket with those who take connections from it: one
// generation for each configuration, so during a reload two.
type socket struct {
	ln       *net.TCPListener
	keep     net.KeepAliveConfig // what ln sets on the connections it accepts
	accepted chan *net.TCPConn   // unbuffered: what is not taken waits in the kernel
	ended    chan struct{}

	mu   sync.Mutex // guards live
	live []*generation
}

func listen(ctx context.Context, suffix, address string, cfg net.ListenConfig) (net.Listener, error) {
	id := key(network+suffix, address)
	value, _, err := sockets.LoadOrNew(id, func() (caddy.Destructor, error) {
		return open(ctx, "tcp"+suffix, address, cfg)
	})
	if err != nil {
		return nil, err
	}
	s := value.(*socket)
	g := &generation{socket: s, id: id, keep: cfg.KeepAliveConfig, closed: make(chan struct{}), given: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = append(s.live, g)
	return g, nil
}

func open(ctx context.Context, network, address string, cfg net.ListenConfig) (*socket, error) {
	cfg.Control = shared
	ln, err := cfg.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s := &socket{
		ln: ln.(*net.TCPListener), keep: cfg.KeepAliveConfig,
		accepted: make(chan *net.TCPConn), ended: make(chan struct{}),
	}
	go s.accept()
	return s, nil
}

// accept runs until Destruct.
func (s *socket) accept() {
	pause := 5 * time.Millisecond
	for {
		c, err := s.ln.AcceptTCP()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			select {
			case s.accepted <- c:
			case <-s.ended:
				c.Close()
			}
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.ECONNABORTED):
		default: // out of file descriptors or memory: others may give some back
			caddy.Log().Warn("accept", zap.Stringer("address", s.ln.Addr()), zap.Error(err))
			select {
			case <-time.After(pause):
				pause = min(2*pause, time.Second)
			case <-s.ended:
				return
			}
		}
	}
}

// Destruct closes the socket: no configuration listens on the address any more.
func (s *socket) Destruct() error {
	close(s.ended)
	return s.ln.Close()
}

// successor is the newest generation but g, or nil.
func (s *socket) successor(g *generation) *generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range slices.Backward(s.live) {
		if other != g {
			return other
		}
	}
	return nil
}

// succeeded says whether more than one configuration listens on an address.
func succeeded(id string) bool {
	n, _ := sockets.References(id)
	return n > 1
}

// generation is one configuration's listener on a socket.
type generation struct {
	*socket
	id     string
	keep   net.KeepAliveConfig
	closed chan struct{}
	once   sync.Once

	given chan struct{} // says that inherited may hold something

	inheriting sync.Mutex // guards inherited
	inherited  []inheritance
}

// inheritance is a connection that another generation served, and what it had
// read from it for nothing.
type inheritance struct {
	conn *net.TCPConn
	read []byte
}

// Accept returns the next connection, an inherited one first.
func (g *generation) Accept() (net.Conn, error) {
	for {
		if i, ok := g.inherit(); ok {
			return &conn{TCPConn: i.conn, gen: g, rest: i.read, length: -1}, nil
		}
		select {
		case <-g.closed:
			return nil, net.ErrClosed
		default:
		}
		select {
		case <-g.closed:
			return nil, net.ErrClosed
		case <-g.given:
		case c := <-g.accepted:
			if g.keep != g.socket.keep {
				c.SetKeepAliveConfig(g.keep) //nolint:errcheck // as net does: a connection is worth more than its probes
			}
			return &conn{TCPConn: c, gen: g, length: -1}, nil
		}
	}
}

func (g *generation) inherit() (i inheritance, ok bool) {
	g.inheriting.Lock()
	defer g.inheriting.Unlock()
	if len(g.inherited) == 0 {
		return i, false
	}
	i, g.inherited = g.inherited[0], g.inherited[1:]
	return i, true
}

// give passes a connection on to the successor of g.
func (g *generation) give(i inheritance) {
	next := g.successor(g)
	if next == nil {
		i.conn.Close()
		return
	}
	next.inheriting.Lock()
	select {
	case <-next.closed:
		next.inheriting.Unlock()
		i.conn.Close()
		return
	default:
	}
	next.inherited = append(next.inherited, i)
	next.inheriting.Unlock()
	select {
	case next.given <- struct{}{}:
	default:
	}
	passed.Inc()
}

// Close ends this configuration's listening. Connections that it inherited and
// did not take go to its own successor.
func (g *generation) Close() error {
	g.once.Do(func() {
		g.inheriting.Lock()
		close(g.closed)
		rest := g.inherited
		g.inherited = nil
		g.inheriting.Unlock()
		for _, i := range rest {
			g.give(i)
		}
		g.mu.Lock()
		g.live = slices.DeleteFunc(g.live, func(o *generation) bool { return o == g })
		g.mu.Unlock()
		sockets.Delete(g.id) //nolint:errcheck // the error is that of closing the socket
	})
	return nil
}

// Addr returns the socket's address.
func (g *generation) Addr() net.Addr { return g.ln.Addr() }
