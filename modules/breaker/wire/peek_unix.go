//go:build unix

package wire

import "syscall"

// peek looks at the socket without waiting and without taking anything.
func (c *conn) peek(fd uintptr) bool {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	c.busy = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK
	return true
}
