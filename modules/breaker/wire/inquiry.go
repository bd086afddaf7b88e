package wire

// inquiry is a write to a kept connection that looks at it first and, where it
// is the end of a request, waits for the answer: in one stay at the socket. By
// separate calls the kernel is asked once more, for what cannot be there yet.
type inquiry struct {
	// turn is called at the socket, and again once there is something to read
	// where it says no. It is nil where the connection's own Read and Write must
	// see everything.
	turn  func(fd uintptr) bool
	out   []byte
	n     int  // how much of out is written
	whole bool // out ends the request
	again bool // turn was called before
}

// inquire writes what the socket takes of p, and nothing to a stale connection.
func (c *conn) inquire(p []byte) (int, error) {
	c.unseen, c.again, c.busy, c.out, c.n = false, false, false, p, 0
	_ = c.raw.Read(c.turn) // what has failed here fails the next Read or Write
	c.out = nil
	if c.busy {
		return 0, errStale
	}
	return c.n, nil
}
