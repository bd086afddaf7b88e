package demo

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// start serves h on a free port until the test ends.
func start(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(l, h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.stop(ctx); err != nil {
			t.Errorf("stop %s: %v", s.addr, err)
		}
	})
	return "http://" + s.addr
}

func client(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	var p http.Protocols
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestUpstreamTellsWhatItSaw(t *testing.T) {
	url := start(t, &Upstream{Name: "orders-1"})
	for proto, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(proto, func(t *testing.T) {
			c := client(t, h2)
			req, err := http.NewRequest(http.MethodPut, url+"/orders/7?full=1", strings.NewReader("four"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-User-Id", "alice")
			req.Header.Set("Authorization", "Bearer hidden")
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			var got echo
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if got.Upstream != "orders-1" || got.Method != "PUT" || got.Path != "/orders/7?full=1" || got.Proto != proto || got.BodyBytes != 4 {
				t.Errorf("got %s", text)
			}
			if got.Headers["X-User-Id"] != "alice" || strings.Contains(string(text), "hidden") {
				t.Errorf("headers %v: want X-User-Id alice and no credential", got.Headers)
			}
		})
	}
}

func TestUpstreamFaults(t *testing.T) {
	u := &Upstream{Name: "orders-1"}
	url := start(t, u)
	c := client(t, false)

	u.SetFault(Fault{Status: 503, Latency: 20 * time.Millisecond})
	began := time.Now()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if took := time.Since(began); res.StatusCode != 503 || took < 20*time.Millisecond {
		t.Errorf("status %d after %s, want 503 after at least 20ms", res.StatusCode, took)
	}

	u.SetFault(Fault{Mode: "reset"})
	if res, err := c.Get(url); err == nil {
		t.Errorf("reset: got %s, want no answer", res.Status)
	}

	u.SetFault(Fault{Mode: "cut"})
	res, err = c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(text) == 0 {
		t.Errorf("cut: read %q, %v; want half a body and an unexpected EOF", text, err)
	}
	res.Body.Close()

	u.SetFault(Fault{Mode: "hang"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := c.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang: got %v, %v; want the caller's own deadline", res, err)
	}
}

// A stub that hangs must not keep the demo from ending.
func TestStopEndsHangingRequests(t *testing.T) {
	u := &Upstream{Name: "orders-1"}
	u.SetFault(Fault{Mode: "hang"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	s := serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		u.ServeHTTP(w, r)
	}))
	c := client(t, false)
	answered := make(chan error, 1)
	go func() {
		res, err := c.Get("http://" + s.addr)
		if err == nil {
			err = res.Body.Close()
		}
		answered <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	<-answered
}
