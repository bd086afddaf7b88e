package handover

import (
	"errors"
	"net"
	"sync"
	"time"
)

// parting is how long a client has to answer the close frame, and how long the
// gateway waits for the end of a frame that it is sending.
const parting = time.Second

// restart is a close frame with code 1012, "service restart" (RFC 6455, 5.5.1,
// and IANA's registry of close codes): FIN and opcode 8, two bytes of payload.
var restart = []byte{0x88, 2, 1012 >> 8, 1012 & 0xff}

// tunnel is the client's side of a WebSocket.
type tunnel struct {
	net.Conn
	of   *tunnels
	gone chan struct{} // closed when the tunnel is
	once sync.Once

	mu     sync.Mutex // guards the rest, and keeps frames whole
	frames frames
	asked  bool // the close frame is due
	closed bool // the close frame is sent, and nothing may follow
}

func (t *tunnel) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, net.ErrClosed
	}
	n, err := t.Conn.Write(p)
	t.frames.pass(p[:n])
	if err == nil && t.asked {
		t.partLocked()
	}
	return n, err
}

// part sends the close frame, at once or after the frame that is on its way.
func (t *tunnel) part() {
	t.Conn.SetWriteDeadline(time.Now().Add(parting)) //nolint:errcheck // a closed tunnel has parted
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = true
	t.partLocked()
}

func (t *tunnel) partLocked() {
	if !t.closed && t.frames.between() {
		t.closed = true
		t.Conn.Write(restart) //nolint:errcheck // a client that is gone needs none
	}
}

// CloseWrite ends one direction, where the connection can do so.
func (t *tunnel) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (t *tunnel) Close() error {
	err := t.Conn.Close()
	t.once.Do(func() {
		close(t.gone)
		t.of.remove(t)
	})
	return err
}

// tunnels are the open WebSockets of one server.
type tunnels struct {
	mu   sync.Mutex // guards open
	open map[*tunnel]bool
}

func (ts *tunnels) add(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.open == nil {
		ts.open = make(map[*tunnel]bool)
	}
	ts.open[t] = true
}

func (ts *tunnels) remove(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.open, t)
}

func (ts *tunnels) all() (all []*tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for t := range ts.open {
		all = append(all, t)
	}
	return all
}

// wait returns once all that are open now are gone, or done is.
func (ts *tunnels) wait(done <-chan struct{}) {
	for _, t := range ts.all() {
		select {
		case <-t.gone:
		case <-done:
			return
		}
	}
}

// part sends every client the close frame and gives all of them together the
// time to answer it.
func (ts *tunnels) part() int {
	all := ts.all()
	var sent sync.WaitGroup
	for _, t := range all {
		sent.Go(t.part)
	}
	sent.Wait()
	enough := make(chan struct{})
	defer time.AfterFunc(parting, func() { close(enough) }).Stop()
	ts.wait(enough)
	return len(all)
}

// frames follows the frames that a server sends (RFC 6455, 5.2):
//
//	FIN, opcode │ MASK, length 0…125, 126 or 127 │ 0, 2 or 8 bytes of length │ mask, 4 bytes │ payload
type frames struct {
	header  []byte // of the frame that begins, as far as it came
	payload uint64 // bytes to come of the frame
}

// between says that no frame is half sent.
func (f *frames) between() bool { return len(f.header) == 0 && f.payload == 0 }

func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		if f.payload > 0 {
			n := min(f.payload, uint64(len(p)))
			f.payload -= n
			p = p[n:]
			continue
		}
		f.header = append(f.header, p[0])
		p = p[1:]
		if length, whole := f.length(); whole {
			f.payload, f.header = length, f.header[:0]
		}
	}
}

func (f *frames) length() (n uint64, whole bool) {
	if len(f.header) < 2 {
		return 0, false
	}
	size, extended := 2, 0
	switch n = uint64(f.header[1] & 0x7f); n {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	size += extended
	if f.header[1]&0x80 != 0 {
		size += 4
	}
	if len(f.header) < size {
		return 0, false
	}
	if extended > 0 {
		n = 0
		for _, b := range f.header[2 : 2+extended] {
			n = n<<8 | uint64(b)
		}
	}
	return n, true
}
