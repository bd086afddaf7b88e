package wire

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// BenchmarkRoundTrip sends small GETs over one kept connection; net/http's own
// transport is the peer. Both ends run in this process: the difference is what
// counts.
func BenchmarkRoundTrip(b *testing.B) {
	host := listening(b, func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: 13\r\n\r\nhello, world!"); err != nil {
				return
			}
		}
	})
	base := dialer()
	pool := NewPool(8, time.Minute)
	defer pool.Close()
	for _, c := range []struct {
		name string
		rt   http.RoundTripper
	}{{"wire", New(base, pool)}, {"net-http", base}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			req := request("GET", "/orders/1", nil, "Accept: */*", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "Accept-Encoding: gzip", "User-Agent: bench")
			req.URL.Host = host
			for b.Loop() {
				res, err := c.rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
}

// TestWhatARoundTripAllocates holds the point of the package; net/http's
// transport takes 38.
func TestWhatARoundTripAllocates(t *testing.T) {
	o := newOrigin(t, false, false)
	o.echo = true
	pool := NewPool(1, time.Minute)
	defer pool.Close()
	rt := New(dialer(), pool)
	req := to(o.Addr().String(), request("GET", "/orders/1", nil, "Accept-Encoding: gzip"))
	var theirs, all float64
	once := func(rt http.RoundTripper) func() {
		return func() {
			res, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
	}
	base := dialer()
	defer base.CloseIdleConnections()
	// The origin allocates too, as much for the one as for the other.
	theirs, all = testing.AllocsPerRun(200, once(base)), testing.AllocsPerRun(200, once(rt))
	if all > theirs-25 {
		t.Errorf("a round trip allocates %.0f times, net/http's %.0f", all, theirs)
	}
}
