package breaker

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// counted is an upstream that counts its connections.
func counted(t *testing.T) (addr string, conns *atomic.Int64) {
	t.Helper()
	conns = new(atomic.Int64)
	u := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	u.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	u.Start()
	t.Cleanup(u.Close)
	return u.Listener.Addr().String(), conns
}

func TestConnectionsOutliveAReload(t *testing.T) {
	addr, conns := counted(t)
	held, _ := pool.References(connections(`{"protocol":"http"}`))
	config := `{"policy":{"name":"kept"},"timeout":"%s","proxy":` + proxyTo(addr) + `}`
	before := build(t, strings.Replace(config, "%s", "1s", 1))
	serve(t, before).get(t, "/")
	after := build(t, strings.Replace(config, "%s", "2s", 1))
	if err := before.Cleanup(); err != nil {
		t.Fatal(err)
	}
	g := serve(t, after)
	g.get(t, "/")
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want the one from before the reload", n)
	}
	if err := after.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if n, used := pool.References(connections(`{"protocol":"http"}`)); used && n > held {
		t.Errorf("the pool of connections is held %d times, %d before", n, held)
	}
}

func TestWhatGoesTheDirectWay(t *testing.T) {
	u := newUpstream(t)
	plain := func() *http.Request { return httptest.NewRequest("GET", "/", nil) }
	with := func(name, value string) func() *http.Request {
		return func() *http.Request { r := plain(); r.Header.Set(name, value); return r }
	}
	for _, c := range []struct {
		name, option string
		request      func() *http.Request
		direct       bool
	}{
		{"plain", "", plain, true},
		{"a body", "", func() *http.Request { return httptest.NewRequest("POST", "/", strings.NewReader("body")) }, true},
		{"switched off", `"direct":"off",`, plain, false},
		{"expectation without a body", "", with("Expect", "100-continue"), false},
		{"expectation", "", func() *http.Request {
			r := httptest.NewRequest("POST", "/", strings.NewReader("body"))
			r.Header.Set("Expect", "100-continue")
			return r
		}, true},
		{"upgrade", "", func() *http.Request {
			r := with("Connection", "Upgrade")()
			r.Header.Set("Upgrade", "websocket")
			return r
		}, false},
		{"trailers", "", func() *http.Request {
			r := httptest.NewRequest("POST", "/", bufio.NewReader(strings.NewReader("body")))
			r.Trailer = http.Header{"X-Sum": nil}
			return r
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := build(t, `{"policy":{"name":"%s"},"lean":"off",`+c.option+`"proxy":`+proxyTo(u.addr)+`}`)
			direct, stock := testutil.ToFloat64(sentDirect), testutil.ToFloat64(sentStock)
			g := serve(t, h)
			req := c.request()
			req.RequestURI = ""
			req.URL.Scheme, req.URL.Host = "http", strings.TrimPrefix(g.URL, "http://")
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			want := map[bool]string{true: "1 direct, 0 stock", false: "0 direct, 1 stock"}[c.direct]
			if got := fmt.Sprintf("%v direct, %v stock", testutil.ToFloat64(sentDirect)-direct, testutil.ToFloat64(sentStock)-stock); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// TestHowAnUpstreamOverTLSIsReached: on a cheaper way once an answer has shown
// that it does not choose HTTP/2.
func TestHowAnUpstreamOverTLSIsReached(t *testing.T) {
	for _, c := range []struct {
		name, lean, versions string
		http2                bool
		want, way            string
	}{
		{"HTTP/1.1 chosen", "on", "", false, "2 lean, 0 direct, 1 stock", "lean"},
		{"HTTP/2 chosen", "on", "", true, "0 lean, 0 direct, 3 stock", "direct: the upstreams speak HTTP/2, or have not been asked yet"},
		{"HTTP/1.1 only", "on", `"versions":["1.1"],`, true, "3 lean, 0 direct, 0 stock", "lean"},
		{"HTTP/1.1 chosen, lean off", "off", "", false, "0 lean, 2 direct, 1 stock", "direct: switched off"},
		{"HTTP/2 chosen, lean off", "off", "", true, "0 lean, 0 direct, 3 stock", "direct: switched off"},
		{"HTTP/1.1 only, lean off", "off", `"versions":["1.1"],`, true, "0 lean, 3 direct, 0 stock", "direct: switched off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			u.EnableHTTP2 = c.http2
			u.StartTLS()
			t.Cleanup(u.Close)
			trusted := base64.StdEncoding.EncodeToString(u.Certificate().Raw)
			h := build(t, `{"policy":{"name":"%s"},"lean":"`+c.lean+`","proxy":{"upstreams":[{"dial":"`+u.Listener.Addr().String()+`"}],"transport":{"protocol":"http",`+c.versions+
				`"tls":{"ca":{"provider":"inline","trusted_ca_certs":["`+trusted+`"]}}}}}`)
			lean, direct, stock := testutil.ToFloat64(sentLean), testutil.ToFloat64(sentDirect), testutil.ToFloat64(sentStock)
			g := serve(t, h)
			for range 3 {
				g.get(t, "/")
			}
			if got := fmt.Sprintf("%v lean, %v direct, %v stock", testutil.ToFloat64(sentLean)-lean, testutil.ToFloat64(sentDirect)-direct,
				testutil.ToFloat64(sentStock)-stock); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if got := h.way().String(); got != c.way {
				t.Errorf("the way is %q, want %q", got, c.way)
			}
		})
	}
}

func TestTransportsThatAreNotDoneDirectly(t *testing.T) {
	for name, transport := range map[string]string{
		"h2c":                  `{"protocol":"http","versions":["h2c","2"]}`,
		"http/3":               `{"protocol":"http","versions":["3"],"tls":{}}`,
		"bound of connections": `{"protocol":"http","max_conns_per_host":5}`,
		"no keep-alive":        `{"protocol":"http","keep_alive":{"enabled":false}}`,
		"PROXY protocol":       `{"protocol":"http","proxy_protocol":"v1"}`,
	} {
		h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"127.0.0.1:1"}],"transport":`+transport+`}}`)
		if h.proxy.Transport.(*Transport).direct != nil {
			t.Errorf("%s: done directly", name)
		}
	}
}
