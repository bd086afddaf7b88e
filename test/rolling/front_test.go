package rolling

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// front stands for the Service of a cluster: it passes new connections on to
// gateways that say that they are ready, and leaves those alone that are there.
type front struct {
	net.Listener
	backends []*backend
	next     atomic.Uint64
}

// backend is a gateway as the front sees it.
type backend struct {
	addr, ready string
	in          atomic.Bool // it takes new connections
}

func newFront(t *testing.T, backends ...*backend) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Listener: l, backends: backends}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	for _, b := range backends {
		wg.Go(func() { b.watch(ctx) })
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.pass(c)
		}
	})
	return f
}

// watch asks the readiness probe twenty times a second.
func (b *backend) watch(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for {
		res, err := client.Get(b.ready)
		if err == nil {
			res.Body.Close()
		}
		b.in.Store(err == nil && res.StatusCode == http.StatusOK)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (f *front) pass(client net.Conn) {
	defer client.Close()
	for range f.backends {
		b := f.backends[f.next.Add(1)%uint64(len(f.backends))]
		if !b.in.Load() {
			continue
		}
		server, err := net.Dial("tcp", b.addr)
		if err != nil {
			return
		}
		defer server.Close()
		go func() {
			io.Copy(server, client)            //nolint:errcheck // either side may go first
			server.(*net.TCPConn).CloseWrite() //nolint:errcheck // likewise
		}()
		io.Copy(client, server) //nolint:errcheck // likewise
		return
	}
}
