package breaker

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestClientsLeaveWhileTheyAreToldOfHints has clients hang up on an upstream
// that sends one informational answer after another, in each of the ways that a
// request can take. Nothing may touch an answer that net/http has taken back.
func TestClientsLeaveWhileTheyAreToldOfHints(t *testing.T) {
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
					_, err = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-A: b\r\nX-C: d\r\n\r\n")
				}
			}()
		}
	}()
	for _, tt := range []struct{ name, host, way string }{
		{"the codec", "plain.example", leanWay},
		{"a host that the codec does not write", "bücher.example", leanWay},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := build(t, `{"policy":{"name":"%s","failure_ratio":-1,"consecutive":-1},"proxy":{"upstreams":[{"dial":"`+ln.Addr().String()+
				`"}],"headers":{"request":{"set":{"Host":["`+tt.host+`"]}}}}}`)
			if w := h.way(); w.Way != tt.way {
				t.Fatal(w)
			}
			g := front(t, marked{h})
			for range 100 {
				c, err := net.Dial("tcp", g.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				go io.Copy(io.Discard, c) //nolint:errcheck // it ends with the connection
				time.Sleep(5 * time.Millisecond)
				c.Close()
			}
		})
	}
}
