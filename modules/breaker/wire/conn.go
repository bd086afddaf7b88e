package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"time"
)

// conn is a connection that one request at a time is on.
type conn struct {
	net.Conn
	pool *Pool
	spot spot
	tls  *tls.ConnectionState // nil in clear text
	br   *bufio.Reader
	bw   *bufio.Writer
	// limit is how many bytes of the head of an answer may still come; negative
	// outside of a head.
	limit int64
	sent  int64 // bytes of the current request
	// unwritable says that the upstream takes no more of the request. It may
	// have answered all the same.
	unwritable bool
	// uploaded, where set, is called once the body of the request is sent.
	uploaded func()

	reused bool
	since  time.Time // when it became idle

	abort func()      // closes it
	stop  func() bool // calls abort off; nil where nothing would call it
	// ctx and at are the pool's: see watchLater.
	ctx   context.Context
	at    int // place among the fresh
	round uint
	names []string // scratch for the order of fields
	call  call     // the request that is on it

	raw  syscall.RawConn
	look func(fd uintptr) bool
	busy bool // what look saw: bytes nobody asked for, an end or an error

	// unseen says that nobody has looked at the connection since it was idle:
	// the first Write does.
	unseen bool
	inquiry
}

func newConn(n net.Conn, pool *Pool, at spot, in, out int) *conn {
	c := &conn{Conn: n, pool: pool, spot: at, limit: -1, at: -1}
	c.br, c.bw = bufio.NewReaderSize(c, in), bufio.NewWriterSize(c, out)
	c.abort = func() { _ = n.Close() }
	if s, ok := n.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	c.look = c.peek
	switch n.(type) {
	case *net.TCPConn, *net.UnixConn:
		c.turn = c.atSocket
	}
	return c
}

// Read keeps the head of an answer within its limit.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit < 0 {
		return c.Conn.Read(p)
	}
	if c.limit == 0 {
		return 0, errLimit
	}
	if int64(len(p)) > c.limit {
		p = p[:c.limit]
	}
	n, err := c.Conn.Read(p)
	c.limit -= int64(n)
	return n, err
}

// Write counts, because a request of which nothing was sent may be sent again.
func (c *conn) Write(p []byte) (n int, err error) {
	if c.unseen {
		n, err = c.inquire(p)
	}
	if err == nil && n < len(p) {
		var more int
		more, err = c.Conn.Write(p[n:])
		n += more
	}
	c.sent += int64(n)
	c.unwritable = err != nil
	return n, err
}

// stale says that an idle connection must not be used: the upstream has closed
// it, or has sent what nobody asked for and what the next caller would take for
// its answer.
func (c *conn) stale() bool {
	if s, ok := c.Conn.(*tls.Conn); ok {
		return !s.NetConn().(*gate).quiet(s)
	}
	return c.raw == nil || c.raw.Read(c.look) != nil || c.busy
}
