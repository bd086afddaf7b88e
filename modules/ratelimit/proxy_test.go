package ratelimit

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a gateway and Redis and does what bad networks do.
type proxy struct {
	addr, target string
	listener     net.Listener

	mu    sync.Mutex // guards what follows
	delay time.Duration
	hung  chan struct{} // while open, nothing passes
	cut   bool          // drop answers to scripts, and the connection with them
	conns map[net.Conn]struct{}
	dials int
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target, listener: l, conns: map[net.Conn]struct{}{}}
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.set(0, false, false)
		p.drop()
	})
	return p
}

func (p *proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		p.mu.Lock()
		p.dials++
		p.conns[near], p.conns[far] = struct{}{}, struct{}{}
		p.mu.Unlock()
		scripts := new(atomic.Bool)
		go p.pipe(near, far, false, scripts)
		go p.pipe(far, near, true, scripts)
	}
}

func (p *proxy) pipe(from, to net.Conn, answers bool, scripts *atomic.Bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		delay, hung, cut := p.delay, p.hung, p.cut
		p.mu.Unlock()
		if !answers && bytes.Contains(bytes.ToLower(buf[:n]), []byte("eval")) {
			scripts.Store(true)
		}
		if answers && cut && scripts.Load() {
			return
		}
		if hung != nil {
			<-hung
		}
		if answers && delay > 0 {
			time.Sleep(delay) // the fault itself
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// set changes what the proxy does from now on.
func (p *proxy) set(delay time.Duration, hang, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.cut = delay, cut
	if p.hung != nil {
		close(p.hung)
		p.hung = nil
	}
	if hang {
		p.hung = make(chan struct{})
	}
}

// drop ends all connections.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}
