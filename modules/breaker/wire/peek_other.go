//go:build !unix

package wire

// peek cannot look at the socket here: no connection is used twice.
func (c *conn) peek(uintptr) bool {
	c.busy = true
	return true
}
