package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// body is that of an answer. Its end gives the connection back.
type body struct {
	io.ReadCloser
	ctx  context.Context
	up   *upload
	keep bool // neither side asked to close the connection

	mu     sync.Mutex
	c      *conn // nil once it is given back or closed
	err    error
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	closed, err := b.closed, b.err
	b.mu.Unlock()
	if closed {
		return 0, errClosed
	}
	if err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		if err != io.EOF && b.ctx.Err() != nil {
			err = context.Cause(b.ctx)
		}
		b.err = err
		b.finish(err == io.EOF)
	}
	return n, b.err
}

// Ready says that some of the body is here: the next Read need not wait.
func (b *body) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c != nil && b.c.br.Buffered() > 0
}

// Close gives up what was not read, and with it the connection.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.finish(false)
	}
	return nil
}

// finish ends the use of the connection: whole says that it carries nothing
// more of this answer.
func (b *body) finish(whole bool) {
	c := b.c
	if c == nil {
		return
	}
	b.c = nil
	if c.pool.unwatch(c) && whole && b.keep && c.br.Buffered() == 0 && b.up.over() {
		c.pool.put(c)
		return
	}
	_ = c.Close()
}

// upload sends the body of a request.
type upload struct {
	done   chan struct{} // closed at the end
	err    error         // why it broke off
	unread bool          // because the body could not be read

	// asked says whether the upstream wants the body; nil where it is not waited
	// for. The first word counts.
	asked    chan bool
	patience time.Duration
}

// ask tells an upload that waits whether to begin.
func (u *upload) ask(wanted bool) {
	if u != nil && u.asked != nil {
		select {
		case u.asked <- wanted:
		default:
		}
	}
}

// wanted waits for the upstream to ask for the body, and no longer than it may:
// one that does not know of the question never answers it.
func (u *upload) wanted() bool {
	if u.asked == nil {
		return true
	}
	timer := time.NewTimer(u.patience)
	defer timer.Stop()
	select {
	case wanted := <-u.asked:
		return wanted
	case <-timer.C:
		return true
	}
}

// over says that the whole body was sent, and waits a moment for it.
func (u *upload) over() bool {
	if u == nil {
		return true
	}
	timer := time.NewTimer(uploadGrace)
	defer timer.Stop()
	select {
	case <-u.done:
		return u.err == nil
	case <-timer.C:
		return false
	}
}

func (u *upload) run(c *conn, req *http.Request) {
	defer close(u.done)
	if !u.wanted() {
		closeBody(req)
		return
	}
	src := &source{Reader: req.Body}
	if req.ContentLength > 0 {
		u.err = sendSized(c.bw, src, req.ContentLength)
	} else {
		u.err = sendChunked(c.bw, src)
	}
	if err := req.Body.Close(); u.err == nil {
		u.err = err
	}
	if u.err == nil && req.ContentLength <= 0 {
		u.err = sendTrailer(c.bw, req.Trailer)
	}
	if u.err != nil {
		u.unread = src.err != nil
		if !c.unwritable {
			_ = c.Close() // the upstream must not wait for the rest
		}
		return
	}
	if c.uploaded != nil {
		c.uploaded()
	}
}

// sendSized sends a body of length n. One that is shorter or longer is an
// error, and what is longer is not sent.
func sendSized(w *bufio.Writer, src *source, n int64) error {
	sent, err := pump(w, w, &io.LimitedReader{R: src, N: n})
	if err != nil {
		return err
	}
	more, err := io.Copy(io.Discard, src)
	if err != nil {
		return err
	}
	if sent+more != n {
		return fmt.Errorf("http: ContentLength=%d with Body length %d", n, sent+more)
	}
	return nil
}

func sendChunked(w *bufio.Writer, src *source) error {
	chunks := httputil.NewChunkedWriter(w)
	if _, err := pump(chunks, w, src); err != nil {
		return err
	}
	return chunks.Close()
}

// sendTrailer ends a body sent in chunks. The trailer holds now what was read at
// the end of the body.
func sendTrailer(w *bufio.Writer, trailer http.Header) error {
	if err := trailer.Write(w); err != nil {
		return err
	}
	put(w, "\r\n")
	return w.Flush()
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// pump copies src to dst and sends each piece at once: whoever waits for it
// must not wait for the next.
func pump(dst io.Writer, out *bufio.Writer, src io.Reader) (total int64, err error) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, end := src.Read(buf[:])
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return total, err
			}
			if err := out.Flush(); err != nil {
				return total, err
			}
			total += int64(n)
		}
		switch end {
		case nil:
		case io.EOF:
			return total, nil
		default:
			return total, end
		}
	}
}

// source tells the errors of reading a body from those of sending it.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
