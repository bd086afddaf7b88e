package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// kept has one connection to the upstream become idle.
func kept(t *testing.T, rt *Transport, host string, next func() net.Conn) net.Conn {
	t.Helper()
	done := trying(rt, to(host, get()))
	c := next()
	read(t, c, ok)
	if r := <-done; r.err != nil {
		t.Fatal(r.err)
	}
	return c
}

// TestALongHeadOnAKeptConnection fills the buffer before it is whole, so it is
// written in parts; an end of the connection must be seen before the first.
func TestALongHeadOnAKeptConnection(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprint("closed ", closed), func(t *testing.T) {
			rt, pool, host, next := scene(t, false)
			c := kept(t, rt, host, next)
			if closed {
				_ = c.Close()
				arrived(t, pool, host)
			}
			done := trying(rt, to(host, request("POST", "/", nil, "X-Long: "+long)))
			if closed {
				c = next()
			}
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				t.Fatal(err)
			}
			if req.Header.Get("X-Long") != long {
				t.Error("the head did not come as it was sent")
			}
			say(t, c, ok)
			if r := <-done; r.err != nil {
				t.Error(r.err)
			}
		})
	}
}

// TestAHeadThatTheSocketDoesNotTakeAtOnce fills the upstream's window.
func TestAHeadThatTheSocketDoesNotTakeAtOnce(t *testing.T) {
	rt, _, host, next := scene(t, false)
	rt.base.WriteBufferSize = 16 << 20
	c := kept(t, rt, host, next)
	long := strings.Repeat("x", 12<<20)
	done := trying(rt, to(host, request("GET", "/", nil, "X-Long: "+long)))
	time.Sleep(20 * time.Millisecond) // the writer is to find the socket full
	br := bufio.NewReaderSize(c, 16<<20)
	var got int
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got += len(line); line == "\r\n" {
			break
		}
	}
	if got < len(long) {
		t.Errorf("%d bytes came", got)
	}
	say(t, c, ok)
	if r := <-done; r.err != nil {
		t.Error(r.err)
	}
}

// counting sees what is read and written, as a connection with a timeout for
// each does.
type counting struct {
	*net.TCPConn
	reads, writes *atomic.Int32
}

func (c counting) Read(p []byte) (int, error)  { c.reads.Add(1); return c.TCPConn.Read(p) }
func (c counting) Write(p []byte) (int, error) { c.writes.Add(1); return c.TCPConn.Write(p) }

func TestAConnectionThatSeesWhatIsWritten(t *testing.T) {
	o := newOrigin(t, false, false)
	o.echo = true
	var reads, writes atomic.Int32
	base := dialer()
	dial := base.DialContext
	base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return counting{c.(*net.TCPConn), &reads, &writes}, nil
	}
	pool := NewPool(1, time.Minute)
	defer pool.Close()
	rt := New(base, pool)
	for range 3 {
		if r := <-trying(rt, to(o.Addr().String(), get())); r.err != nil {
			t.Fatal(r.err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conns != 1 || writes.Load() != 3 || reads.Load() < 3 {
		t.Errorf("%d connections, %d writes and %d reads for 3 requests", o.conns, writes.Load(), reads.Load())
	}
}

func TestACallerWhoLeavesAKeptConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		rt, _, host, next := scene(t, secure)
		c := kept(t, rt, host, next)
		reason := errors.New("the client left")
		ctx, leave := context.WithCancelCause(t.Context())
		done := trying(rt, to(host, get()).WithContext(ctx))
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			t.Fatal(err)
		}
		leave(reason)
		if r := <-done; !errors.Is(r.err, reason) {
			t.Errorf("error %v, want %v", r.err, reason)
		}
		gone(t, c)
	})
}

// TestAnEndAtAnyMoment has the upstream close each connection, or its side of
// it, at a moment around the next request. None may wait for ever for an answer,
// and no GET is lost.
func TestAnEndAtAnyMoment(t *testing.T) {
	host := listening(t, endSoon)
	pool := NewPool(8, time.Minute)
	defer pool.Close()
	rt := New(dialer(), pool)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
				if r := <-trying(rt, to(host, get()).WithContext(ctx)); r.err != nil {
					t.Error(r.err)
				}
				stop()
			}
		})
	}
	all.Wait()
}

// endSoon answers one request, then ends the connection, and never answers a
// second one: its first request was made on a new connection and is answered.
func endSoon(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	if _, err := http.ReadRequest(br); err != nil {
		return
	}
	if _, err := io.WriteString(c, ok); err != nil {
		return
	}
	for wait := rand.IntN(4000); wait > 0; wait-- { // some microseconds at most: a sleep takes longer
	}
	if rand.IntN(2) == 0 {
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, br)
	}
}
