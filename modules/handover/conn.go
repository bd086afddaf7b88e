package handover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// memory is how much of a request that nobody has handled a connection keeps.
// It is Caddy's default limit for a request's header.
const memory = 16 << 10

// conn is a client's connection, which a server that shuts down may close
// although a request is on its way:
//
//   - between two requests, when http.Server finds it idle;
//   - with a request just read, which http.Server then drops unhandled;
//   - after an answer that promised to keep the connection.
//
// In each case no handler has seen what the client sent, and the connection
// goes to the next configuration together with the bytes read so far. A
// request that a handler has seen is never passed on.
type conn struct {
	*net.TCPConn
	gen *generation

	mu   sync.Mutex // guards the rest
	rest []byte     // what a former server had read, to be read again
	// head is what was read since the last answer, until a handler has it.
	head []byte
	// got counts all that was read since the last answer, and length is how
	// long the request is; -1 is unknown. Once the answer is given they are equal
	// unless the client has sent more, which lies in the server's buffer.
	got, length int64
	// ahead is the first byte of the next request, where the client was quicker
	// than the server's end of the last one: http.Server reads one byte while a
	// handler runs, to see whether the client hangs up.
	ahead   []byte
	known   bool // the server calls the connection by this very value
	handled bool // a handler has the request
	wrote   bool // something was answered since the last request
	stays   bool // it cannot be passed on: failed, upgraded or no HTTP/1
	reading bool // a Read is under way
	closing bool // Close came while a handler had the request
	left    bool // it is the successor's
	in, out deadline
	waits   bool          // a Read waits for woken
	woken   chan struct{} // of one place

	at    int // in patience
	round uint
}

func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return 0, net.ErrClosed
	}
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		c.noteLocked(p[:n])
		return n, nil
	}
	c.reading = true
	n, err := c.receiveLocked(p)
	c.reading = false
	if n == 1 && len(p) == 1 && c.handled && c.got == c.length {
		c.ahead = append(c.ahead, p[0])
	}
	c.noteLocked(p[:n])
	if c.left {
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			c.TCPConn.Close()
		} else {
			c.pass()
		}
		return 0, net.ErrClosed
	}
	// While a handler runs, http.Server reads ahead and aborts that by a
	// deadline.
	if err != nil && !c.handled {
		c.stays = true
	}
	return n, err
}

// receiveLocked reads from the socket. It gives up mu while it waits.
func (c *conn) receiveLocked(p []byte) (n int, err error) {
	// http.Server's reading ahead: one byte, while a handler runs.
	if len(p) == 1 && c.handled && !c.in.exact {
		c.waitLocked()
		if c.left || interrupts(c.in.due) {
			return 0, os.ErrDeadlineExceeded
		}
	}
	c.in.busy = true
	defer func() { c.in.busy = false }()
	if err := c.in.arm(c.TCPConn.SetReadDeadline); err != nil {
		return 0, err
	}
	for {
		c.mu.Unlock()
		n, err = c.TCPConn.Read(p)
		c.mu.Lock()
		if err == nil || c.left || !errors.Is(err, os.ErrDeadlineExceeded) || !c.in.early(c.TCPConn.SetReadDeadline) {
			return n, err
		}
	}
}

// waitLocked waits until it is woken, or patience ends. It gives up mu
// meanwhile.
func (c *conn) waitLocked() {
	if interrupts(c.in.due) {
		return
	}
	if c.woken == nil {
		c.woken = make(chan struct{}, 1)
	}
	c.waits = true
	ahead.enter(c)
	c.mu.Unlock()
	<-c.woken
	ahead.leave(c)
	c.mu.Lock()
}

func (c *conn) wakeLocked() {
	if c.waits {
		c.waits = false
		c.woken <- struct{}{}
	}
}

func (c *conn) noteLocked(p []byte) {
	c.got += int64(len(p))
	switch {
	case c.handled || c.stays || !c.known:
	case len(c.head)+len(p) > memory:
		c.head, c.stays = nil, true
	default:
		c.head = append(c.head, p...)
	}
}

func (c *conn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote, c.out.busy = true, true
	defer func() { c.out.busy = false }()
	if err := c.out.arm(c.TCPConn.SetWriteDeadline); err != nil {
		return 0, err
	}
	for {
		c.mu.Unlock()
		more, err := c.TCPConn.Write(p[n:])
		c.mu.Lock()
		n += more
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !c.out.early(c.TCPConn.SetWriteDeadline) {
			return n, err
		}
	}
}

// ReadFrom lets the kernel copy where it can.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	c.mu.Lock()
	c.wrote = true
	c.out.beExact(c.TCPConn.SetWriteDeadline)
	c.mu.Unlock()
	return c.TCPConn.ReadFrom(r)
}

// WriteTo lets the kernel copy where it can.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	c.mu.Lock()
	c.in.beExact(c.TCPConn.SetReadDeadline)
	c.mu.Unlock()
	return c.TCPConn.WriteTo(w)
}

// Close closes the connection, or passes it on to the next configuration where
// the server has no reason but its own end: Read has not failed, and nothing
// was said about closing.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeLocked()
	switch {
	case c.left:
		return nil
	case c.stays || !c.known || c.gen.successor(c.gen) == nil:
		return c.TCPConn.Close()
	case c.handled:
		// Either the server's goroutine for this connection ends it, and tells
		// changed so next; or the goroutine of the shutdown found it idle before
		// changed has heard of that.
		c.closing = true
		return nil
	case c.wrote:
		return c.TCPConn.Close()
	}
	c.left = true
	if c.reading {
		// The reader passes it on, with what comes in the last moment. It waits for
		// mu: a deadline set later would be the successor's.
		return c.TCPConn.SetReadDeadline(past)
	}
	c.pass()
	return nil
}

// pass hands the connection over; it is called once, after left is set and
// while nobody reads.
func (c *conn) pass() {
	if err := c.TCPConn.SetDeadline(time.Time{}); err != nil {
		c.TCPConn.Close()
		return
	}
	c.gen.give(inheritance{conn: c.TCPConn, read: append(c.head, c.rest...)})
}

// The server's deadlines end with its hold on the connection.

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return net.ErrClosed
	}
	if interrupts(t) {
		c.wakeLocked()
	}
	return c.in.ask(t, c.TCPConn.SetReadDeadline)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return net.ErrClosed
	}
	return c.out.ask(t, c.TCPConn.SetWriteDeadline)
}

type connKey struct{}

// known is told of each new connection before its server reads from it. Behind
// TLS, or another listener wrapper, the server has some other value.
func known(ctx context.Context, nc net.Conn) context.Context {
	c, ok := nc.(*conn)
	if !ok {
		return ctx
	}
	c.mu.Lock()
	c.known = true
	c.mu.Unlock()
	return context.WithValue(ctx, connKey{}, c)
}

// changed is told of each change in the state of a connection.
func changed(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	c.mu.Lock()
	switch state {
	case http.StateIdle: // an answer is given, and the client may send again
		c.stays = c.stays || c.got != c.length+int64(len(c.ahead))
		c.head = append(c.head[:0], c.ahead...)
		c.ahead, c.got, c.length = c.ahead[:0], int64(len(c.head)), -1
		c.handled, c.wrote = false, false
	case http.StateHijacked:
		c.stays = true
		c.in.beExact(c.TCPConn.SetReadDeadline)
		c.out.beExact(c.TCPConn.SetWriteDeadline)
	case http.StateClosed:
		c.stays = true
	}
	again := c.closing && !c.left
	c.mu.Unlock()
	if again {
		c.Close() //nolint:errcheck // nobody is left to hear it
	}
}

// enter is told that a handler is to see r.
func (c *conn) enter(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.ProtoMajor != 1 {
		c.head, c.stays = nil, true
	}
	if c.handled || c.stays {
		return
	}
	c.handled = true
	if end := bytes.Index(c.head, []byte("\r\n\r\n")); end >= 0 && r.ContentLength >= 0 {
		c.length = int64(end) + 4 + r.ContentLength
	}
	c.head = c.head[:0]
}
