package breaker

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func TestWorksWithActiveHealthChecks(t *testing.T) {
	u := newUpstream(t)
	checks := make(chan struct{}, 100)
	u.does(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			checks <- struct{}{}
			w.WriteHeader(500)
		}
	})
	h := build(t, `{"policy":{"name":"%s","min_requests":2},"proxy":{"upstreams":[{"dial":"`+u.addr+`"}],
		"health_checks":{"active":{"uri":"/health","interval":"1ms"}}}}`)
	for range 10 {
		<-checks
	}
	if c := h.fixed[0].View(time.Now()); c.State != circuit.Closed || c.Counts.Total != 0 {
		t.Errorf("health checks counted: %s, %+v", c.State, c.Counts)
	}
	// The check failed, so that the proxy has no upstream, and nobody waits.
	s := serve(t, h)
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if res, _ := s.get(t, "/"); res.StatusCode == 503 {
			break
		} else if time.Since(began) > time.Minute {
			t.Fatalf("an unhealthy upstream gets requests: %d", res.StatusCode)
		}
	}
}

func TestWorksWithPROXYProtocol(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	first := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		line, _ := r.ReadString('\n')
		first <- line
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		}
	}()
	h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"`+l.Addr().String()+`"}],"transport":{"protocol":"http","proxy_protocol":"v1"}}}`)
	g := serve(t, h)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL, nil)
	req.Header.Set("X-Test-Client", "192.0.2.77")
	res, err := g.Client().Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("got %v, %v", res, err)
	}
	_ = res.Body.Close()
	if line := <-first; !strings.HasPrefix(line, "PROXY TCP4 192.0.2.77 ") {
		t.Errorf("the upstream was greeted with %q", line)
	}
}

// watcher writes down what telemetry would hear.
type watcher struct{ heard []string }

func (w *watcher) Begin(out *http.Request, a *exchange.Attempt) {
	out.Header.Set("Traceparent", fmt.Sprintf("try-%d", len(w.heard)))
	w.heard = append(w.heard, "begin "+a.Upstream)
}

func (w *watcher) End(a *exchange.Attempt) {
	w.heard = append(w.heard, fmt.Sprintf("end %s %d failed=%t took=%t", a.Upstream, a.Status, a.Err != nil, a.Duration > 0))
}

func TestEveryAttemptIsToldToTheWatcher(t *testing.T) {
	u, dead := newUpstream(t), deadAddr(t)
	var traced string
	u.does(func(w http.ResponseWriter, r *http.Request) {
		traced = r.Header.Get("Traceparent")
		_, _ = io.WriteString(w, "body")
	})
	h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"`+dead+`"},{"dial":"`+u.addr+`"}],
		"load_balancing":{"retries":1,"selection_policy":{"policy":"round_robin"}}}}`)
	// round_robin begins with the second.
	h.proxy.LoadBalancing.SelectionPolicy.Select(h.proxy.Upstreams, &http.Request{}, nil)
	w := new(watcher)
	card := make(chan *exchange.Exchange, 1)
	g := front(t, middleware(func(rw http.ResponseWriter, r *http.Request) error {
		x := exchange.Of(r)
		x.Watch = w
		defer func() { card <- x }()
		return h.ServeHTTP(rw, r, nil)
	}))
	if res, body := g.get(t, "/"); res.StatusCode != 200 || body != "body" {
		t.Fatalf("got %d %q", res.StatusCode, body)
	}
	x := <-card
	want := []string{
		"begin " + dead, "end " + dead + " 0 failed=true took=true",
		"begin " + u.addr, "end " + u.addr + " 200 failed=false took=true",
	}
	if strings.Join(w.heard, "\n") != strings.Join(want, "\n") {
		t.Errorf("heard\n%s\nwant\n%s", strings.Join(w.heard, "\n"), strings.Join(want, "\n"))
	}
	if len(x.Attempts) != 2 || traced != "try-2" {
		t.Errorf("%d attempts on the card; the upstream was told %q", len(x.Attempts), traced)
	}
}
