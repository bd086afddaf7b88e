//go:build unix && !solaris

package handover

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// shared lets a second process listen on the address, as Caddy's own network
// does.
func shared(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	if err != nil {
		return err
	}
	return failed
}
