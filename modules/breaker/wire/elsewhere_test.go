package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"sync/atomic"
	"testing"
	"time"
)

// hints is an upstream that sends nothing but informational answers.
func hints(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, err := c.Read(make([]byte, 4096))
				for err == nil {
					_, err = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// slow is a Hearer whose client takes its time to read the first answer.
type slow struct {
	leave    func()
	returned atomic.Bool // Elsewhere has
	late     atomic.Bool // an answer was heard, or still was, after that
	first    atomic.Bool
}

func (s *slow) Hear(int, textproto.MIMEHeader) error {
	if s.first.CompareAndSwap(false, true) {
		s.leave()
		time.Sleep(100 * time.Millisecond) // for Elsewhere to return too early
	}
	if s.returned.Load() {
		s.late.Store(true)
	}
	return nil
}

// TestElsewhereTellsNothingOnceItHasReturned has the caller leave while an
// informational answer is on its way to the client.
func TestElsewhereTellsNothingOnceItHasReturned(t *testing.T) {
	rt := New(dialer(), NewPool(2, time.Minute))
	t.Cleanup(rt.pool.Close)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+hints(t)+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	hear := &slow{leave: leave}
	if _, err = rt.Elsewhere(req, hear); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the caller left", err)
	}
	hear.returned.Store(true)
	time.Sleep(100 * time.Millisecond) // for an answer too late to be heard
	if !hear.first.Load() || hear.late.Load() {
		t.Errorf("heard an answer: %v, and one too late: %v", hear.first.Load(), hear.late.Load())
	}
}
