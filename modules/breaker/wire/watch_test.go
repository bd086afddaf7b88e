package wire

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

// patient sends a request whose caller may leave a moment before it is noticed.
func patient(ctx context.Context, rt *Transport, host string) error {
	res, err := rt.Send(to(host, get()).WithContext(ctx), Aside{Patient: true})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// unwatched waits until the pool looks after no request any more.
func unwatched(t *testing.T, pool *Pool) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(moment) {
		pool.mu.Lock()
		over := len(pool.fresh) == 0 && pool.rounds == nil
		pool.mu.Unlock()
		if over {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("the pool still looks after requests")
		}
	}
}

func TestAPatientRequestEndsWithItsCaller(t *testing.T) {
	for _, begun := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"} {
		bothWays(t, func(t *testing.T, secure bool) {
			rt, pool, host, next := scene(t, secure)
			ctx, leave := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- patient(ctx, rt, host) }()
			c := next()
			read(t, c, begun)
			leave()
			gone(t, c)
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want that the caller left", err)
			}
			unwatched(t, pool)
		})
	}
}

func TestACallerWhoLeavesAfterTheAnswerClosesNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		until func(*Pool) bool // when the answer comes
	}{
		{"answered at once", func(*Pool) bool { return true }},
		{"answered when the request is watched", func(p *Pool) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.round > 0 && len(p.fresh) == 0
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rt, pool, host, next := scene(t, false)
			ctx, leave := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- patient(ctx, rt, host) }()
			c := next()
			for began := time.Now(); !tt.until(pool); time.Sleep(time.Millisecond) {
				if time.Since(began) > 30*time.Second {
					t.Fatal("nobody looks after the request")
				}
			}
			read(t, c, ok)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			leave()
			unwatched(t, pool)
			go func() { ended <- patient(t.Context(), rt, host) }()
			read(t, c, ok) // on the same connection, or this fails
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCallersComeAndLeave has callers leave before, while and after they are
// answered. Those who stay must not feel it.
func TestCallersComeAndLeave(t *testing.T) {
	o := newOrigin(t, false, false)
	o.echo = true
	pool := NewPool(8, time.Minute)
	t.Cleanup(pool.Close)
	rt := New(dialer(), pool)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				ctx, leave := context.WithCancel(t.Context())
				stays := i%2 == 0
				if !stays {
					time.AfterFunc(time.Duration(n%20)*moment/40, leave)
				}
				err := patient(ctx, rt, o.Addr().String())
				if err != nil && (stays || !errors.Is(err, context.Canceled)) {
					t.Errorf("caller %d: %v", i, err)
				}
				leave()
			}
		})
	}
	all.Wait()
	unwatched(t, pool)
}
