//go:build unix

package wire

import (
	"io"
	"syscall"
)

// peek looks at the socket without waiting and without taking anything.
func (c *conn) peek(fd uintptr) bool {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	c.busy = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK
	return true
}

func (c *conn) atSocket(fd uintptr) bool {
	if c.again {
		return true
	}
	c.again = true
	if c.peek(fd); c.busy {
		return true
	}
	if n, err := syscall.Write(int(fd), c.out); err == nil {
		c.n = n
	}
	return !c.whole || c.n < len(c.out)
}

// read takes what has come without waiting for it.
func (g *gate) read(fd uintptr) bool {
	g.n, _, g.err = syscall.Recvfrom(int(fd), g.into, syscall.MSG_DONTWAIT)
	switch {
	case g.err == syscall.EAGAIN || g.err == syscall.EWOULDBLOCK:
		g.n, g.err = 0, errQuiet
	case g.n <= 0 && g.err == nil:
		g.n, g.err = 0, io.EOF
	case g.err != nil:
		g.n = 0
	}
	return true
}
