package handover

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"
)

// linked returns both ends of a connection, one as the server has it.
func linked(t *testing.T) (*conn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return &conn{TCPConn: server.(*net.TCPConn), length: -1}, client.(*net.TCPConn)
}

const (
	soon  = 30 * time.Millisecond
	later = 20 * time.Second // no test lasts that long
)

func in(d time.Duration) time.Time { return time.Now().Add(d) }

// receive reads once, and fails the test if that takes as long as later.
func receive(t *testing.T, c *conn, size int) (string, error) {
	t.Helper()
	began := time.Now()
	p := make([]byte, size)
	n, err := c.Read(p)
	if time.Since(began) >= later {
		t.Errorf("read for %s", time.Since(began))
	}
	return string(p[:n]), err
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
}

func TestDeadlinesOfReads(t *testing.T) {
	// armed has the socket's deadline set by a read that succeeds.
	armed := func(t *testing.T, d time.Duration) (*conn, *net.TCPConn) {
		c, client := linked(t)
		c.SetReadDeadline(in(d))
		send(t, client, "x")
		if got, err := receive(t, c, 8); got != "x" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		return c, client
	}
	t.Run("passes", func(t *testing.T) {
		c, _ := armed(t, soon)
		for range 2 {
			if _, err := receive(t, c, 8); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}
	})
	t.Run("was set later", func(t *testing.T) {
		c, client := armed(t, soon)
		c.SetReadDeadline(in(later))
		time.AfterFunc(3*soon, func() { send(t, client, "y") })
		if got, err := receive(t, c, 8); got != "y" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("was set later, and passes", func(t *testing.T) {
		c, _ := armed(t, soon)
		due := in(4 * soon)
		c.SetReadDeadline(due)
		if _, err := receive(t, c, 8); !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().Before(due) {
			t.Errorf("%v, %s early", err, time.Until(due))
		}
	})
	t.Run("was taken away", func(t *testing.T) {
		c, client := armed(t, soon)
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(3*soon, func() { send(t, client, "y") })
		if got, err := receive(t, c, 8); got != "y" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("was set earlier", func(t *testing.T) {
		c, _ := armed(t, later)
		c.SetReadDeadline(in(soon))
		if _, err := receive(t, c, 8); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("interrupts a read, which may go on", func(t *testing.T) {
		c, client := armed(t, later)
		time.AfterFunc(soon, func() { c.SetReadDeadline(past) })
		if _, err := receive(t, c, 8); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		c.SetReadDeadline(time.Time{})
		send(t, client, "y")
		if got, err := receive(t, c, 8); got != "y" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("is moved while a read lasts", func(t *testing.T) {
		c, client := armed(t, 2*soon)
		time.AfterFunc(soon, func() { c.SetReadDeadline(in(later)) })
		time.AfterFunc(4*soon, func() { send(t, client, "y") })
		if got, err := receive(t, c, 8); got != "y" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("is the socket's for others", func(t *testing.T) {
		c, client := armed(t, later)
		c.SetDeadline(in(soon))
		if _, err := c.WriteTo(io.Discard); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		c.SetReadDeadline(time.Time{})
		time.AfterFunc(soon, func() { send(t, client, "y") })
		if got, err := receive(t, c, 8); got != "y" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// What a client takes slowly arrives whole where the deadline moves on, as that
// of http.Server's answers does, and else ends in time.
func TestDeadlinesOfWrites(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	for name, write := range map[string]func(*conn) (int64, error){
		"Write": func(c *conn) (int64, error) {
			n, err := c.Write(text)
			return int64(n), err
		},
		"ReadFrom": func(c *conn) (int64, error) { return c.ReadFrom(bytes.NewReader(text)) },
	} {
		t.Run(name+" goes on", func(t *testing.T) {
			c, client := linked(t)
			c.SetWriteDeadline(in(soon))
			send(t, c, "x")
			c.SetWriteDeadline(in(later))
			var got bytes.Buffer
			var wg sync.WaitGroup
			wg.Go(func() {
				time.Sleep(3 * soon)
				io.Copy(&got, client) //nolint:errcheck // what arrives is compared
			})
			if n, err := write(c); n != int64(len(text)) || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			c.CloseWrite()
			wg.Wait()
			if !bytes.Equal(got.Bytes(), append([]byte("x"), text...)) {
				t.Errorf("%d bytes arrive, and are others", got.Len())
			}
		})
		t.Run(name+" ends", func(t *testing.T) {
			c, client := linked(t)
			c.SetWriteDeadline(in(later))
			send(t, c, "x")
			time.AfterFunc(soon, func() { c.SetWriteDeadline(in(soon)) })
			n, err := write(c)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes, %v", n, err)
			}
			c.CloseWrite()
			if arrived, _ := io.Copy(io.Discard, client); name == "Write" && arrived != n+1 {
				t.Errorf("%d bytes arrive, Write says %d", arrived, n)
			}
		})
	}
}

// TestReadingAhead does what http.Server does while a handler runs.
func TestReadingAhead(t *testing.T) {
	handled := func(t *testing.T) (*conn, *net.TCPConn) {
		c, client := linked(t)
		c.handled = true
		return c, client
	}
	for name, pause := range map[string]time.Duration{"at once": 0, "in patience": moment / 2, "after it": 6 * moment} {
		t.Run("interrupted "+name, func(t *testing.T) {
			c, client := handled(t)
			for range 20 {
				c.SetReadDeadline(time.Time{})
				var wg sync.WaitGroup
				wg.Go(func() {
					if got, err := receive(t, c, 1); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%q, %v", got, err)
					}
				})
				time.Sleep(pause)
				c.SetReadDeadline(past)
				wg.Wait()
			}
			c.SetReadDeadline(time.Time{})
			send(t, client, "y")
			if got, err := receive(t, c, 8); got != "y" {
				t.Errorf("%q, %v", got, err)
			}
		})
		t.Run("closed "+name, func(t *testing.T) {
			c, _ := handled(t)
			time.AfterFunc(pause, func() { c.Close() })
			if _, err := receive(t, c, 1); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
		t.Run("a byte "+name, func(t *testing.T) {
			c, client := handled(t)
			time.AfterFunc(pause, func() { send(t, client, "y") })
			if got, err := receive(t, c, 1); got != "y" {
				t.Errorf("%q, %v", got, err)
			}
		})
		t.Run("hung up "+name, func(t *testing.T) {
			c, client := handled(t)
			time.AfterFunc(pause, func() { client.Close() })
			if _, err := receive(t, c, 1); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
	ahead.mu.Lock()
	defer ahead.mu.Unlock()
	if len(ahead.waiting) != 0 {
		t.Errorf("%d still wait", len(ahead.waiting))
	}
}

// accepts is a listener whose connections are as a generation's.
type accepts struct{ net.Listener }

func (l accepts) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{TCPConn: nc.(*net.TCPConn), gen: &generation{socket: &socket{}}, length: -1}, nil
}

// http.Server's own timeouts hold, and a client that hangs up is noticed.
func TestTimeoutsOfTheServer(t *testing.T) {
	gone := make(chan error, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Context().Value(connKey{}).(*conn).enter(r)
		switch r.URL.Path {
		case "/wait":
			<-r.Context().Done()
			gone <- r.Context().Err()
		case "/body":
			_, err := io.Copy(io.Discard, r.Body)
			gone <- err
		case "/hijack":
			nc, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				defer nc.Close()
				err = nc.SetReadDeadline(in(soon))
			}
			if err == nil && !(nc.(*conn).in.exact && nc.(*conn).out.exact) {
				err = errors.New("its deadlines are not exact")
			}
			if err == nil {
				_, err = io.Copy(io.Discard, nc)
			}
			gone <- err
		case "/slow":
			http.NewResponseController(w).SetWriteDeadline(in(later)) //nolint:errcheck // the answer says it
			time.Sleep(6 * soon)
		}
	}))
	server.Listener = accepts{server.Listener}
	server.Config.ConnContext, server.Config.ConnState = known, changed
	server.Config.ReadHeaderTimeout, server.Config.ReadTimeout = 2*soon, 4*soon
	server.Config.WriteTimeout, server.Config.IdleTimeout = 4*soon, 8*soon
	server.Start()
	defer server.Close()

	dial := func(text string) net.Conn {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		send(t, c, text)
		return c
	}
	ends := func(what string, c net.Conn) {
		t.Helper()
		c.SetReadDeadline(in(later))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		c.Close()
	}
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	ends("idle", dial(get+get))
	ends("half a head", dial("GET / HT"))
	ends("half a head after another request", dial(get+"GET / HT"))
	began := time.Now()
	ends("a slow answer with a deadline of its own", dial("GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
	if time.Since(began) < 6*soon {
		t.Error("the slow answer came early")
	}
	dial(get + "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
	if err := <-gone; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a slow body: %v", err)
	}
	dial("GET /hijack HTTP/1.1\r\nHost: a\r\n\r\nabc")
	if err := <-gone; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection taken over: %v", err)
	}
	dial("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").Close()
	if err := <-gone; err == nil {
		t.Error("a client that hangs up is not noticed")
	}
}
