package wire

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

func TestTheSweepClosesWhatTheUpstreamLeft(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		rt, pool, host, next := scene(t, secure)
		done := make(chan struct{})
		go func() { defer close(done); get2xx(t, rt, to(host, get())) }()
		c := next()
		read(t, c, ok)
		<-done
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		arrived(t, pool, host)
		pool.sweep()
		gone(t, c)
		pool.mu.Lock()
		defer pool.mu.Unlock()
		if len(pool.idle) != 0 || pool.timer != nil {
			t.Errorf("the pool still holds %d hosts", len(pool.idle))
		}
	})
}

func TestAPoolKeepsWhatItMayAndNoLongerThanItMay(t *testing.T) {
	bothWays(t, func(t *testing.T, secure bool) {
		rt, pool, host, next := scene(t, secure)
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() { get2xx(t, rt, to(host, get())) })
		}
		var conns []net.Conn
		for range 6 {
			conns = append(conns, next())
		}
		for _, c := range conns {
			read(t, c, ok)
		}
		all.Wait()
		pool.mu.Lock()
		if n := len(pool.idle[place(host)]); n != 4 {
			t.Errorf("%d idle connections, want 4", n)
		}
		for _, c := range pool.idle[place(host)] {
			c.since = time.Now().Add(-time.Hour)
		}
		pool.mu.Unlock()
		if c := pool.take(place(host), time.Now(), false); c != nil {
			t.Error("a connection idle for an hour is used")
		}
	})
}

func TestAClosedBodyIsNotRead(t *testing.T) {
	rt, _, host, next := scene(t, false)
	go func() { read(t, next(), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") }()
	res, err := rt.RoundTrip(to(host, get()))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if _, err := res.Body.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
		t.Errorf("error %v", err)
	}
}
