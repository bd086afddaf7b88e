package breaker

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestWhatIsForwardedLean(t *testing.T) {
	for _, c := range []struct{ name, options, proxy, way string }{
		{"plain", "", ``, "lean"},
		{"switched off", `"lean":"off",`, ``, "direct: switched off"},
		{"direct off", `"direct":"off",`, ``, "stock: direct is off"},
		{"another transport", "", `,"transport":{"protocol":"test_memory"}`, "stock: the transport is not the direct one"},
		{"h2c", "", `,"transport":{"protocol":"http","versions":["h2c","2"]}`, "stock: the transport is not the direct one"},
		{"TLS", "", `,"transport":{"protocol":"http","tls":{}}`, "direct: the upstreams speak HTTP/2, or have not been asked yet"},
		{"TLS without HTTP/2", "", `,"transport":{"protocol":"http","versions":["1.1"],"tls":{}}`, "lean"},
		{"TLS by placeholders", "", `,"transport":{"protocol":"http","versions":["1.1"],"tls":{"server_name":"{http.request.host}"}}`, "direct: the TLS of the upstreams is net/http's to do"},
		{"forward proxy", "", `,"transport":{"protocol":"http","network_proxy":{"from":"none"}}`, "direct: the upstreams are reached through a forward proxy"},
		{"fields", "", `,"headers":{"request":{"set":{"X":["{http.request.host}"]},"delete":["*"]},"response":{"add":{"Connection":["close"]}}}`, "lean"},
		{"a field that asks for more", "", `,"headers":{"request":{"set":{"connection":["close"]}}}`, "direct: header_up sets Connection"},
		{"a field of another name each time", "", `,"headers":{"request":{"add":{"{http.request.host}":["x"]}}}`, "direct: header_up names a field by a placeholder"},
		{"rewrite", "", `,"rewrite":{"method":"GET"}`, "direct: method or rewrite is set"},
		{"handle_response", "", `,"handle_response":[{"status_code":"201"}]`, "direct: handle_response, replace_status or intercepting is set"},
		{"buffers", "", `,"request_buffers":10`, "direct: request_buffers or response_buffers is set"},
		{"flush", "", `,"flush_interval":"1s"`, "lean"},
		{"flush at once", "", `,"flush_interval":-1`, "lean"},
		{"verbose", "", `,"verbose_logs":true`, "direct: verbose_logs is set"},
		{"retry_match", "", `,"load_balancing":{"retry_match":[{"method":["POST"]}]}`, "direct: lb_retry_match is set"},
		{"retries", "", `,"load_balancing":{"retries":3,"try_duration":"1s"}`, "lean"},
		{"least_conn", "", `,"load_balancing":{"selection_policy":{"policy":"least_conn"}}`, "direct: the selection policy least_conn may count requests inside reverse_proxy"},
		{"cookie", "", `,"load_balancing":{"selection_policy":{"policy":"cookie"}}`, "lean"},
		{"cookie, else least_conn", "", `,"load_balancing":{"selection_policy":{"policy":"cookie","fallback":{"policy":"least_conn"}}}`, "direct: the selection policy least_conn may count requests inside reverse_proxy"},
		{"request count", "", `,"health_checks":{"passive":{"unhealthy_request_count":5}}`, "direct: unhealthy_request_count counts requests inside reverse_proxy"},
		{"health checks", "", `,"health_checks":{"active":{"uri":"/health","interval":"1h"}}`, "lean"},
		{"trusted proxies", "", `,"trusted_proxies":["10.0.0.0/8","192.0.2.1"]`, "lean"},
		{"hedge", `"hedge":{"after":"1s"},`, ``, "lean"},
		{"timeout", `"timeout":"1s",`, ``, "lean"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := build(t, `{"policy":{"name":"%s"},`+c.options+`"proxy":{"upstreams":[{"dial":"127.0.0.1:9"},{"dial":"127.0.0.1:10"}]`+c.proxy+`}}`)
			if got := h.way().String(); got != c.way {
				t.Errorf("%q, want %q", got, c.way)
			}
			if status := statusOf(h.fixed[0], time.Now()); fmt.Sprint(status.Forwarding) != "["+c.way+"]" {
				t.Errorf("operators read %v", status.Forwarding)
			}
		})
	}
	for dial, why := range map[string]string{
		"{http.vars.up}": "direct: upstream {http.vars.up} holds a placeholder", "unix//run/up": "stock: upstream unix//run/up is reached by unix",
	} {
		h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"`+dial+`"}]}}`)
		if got := h.way().String(); got != why {
			t.Errorf("%s: %q, want %q", dial, got, why)
		}
	}
	h := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"127.0.0.1:9","max_requests":5}]}}`)
	if got := h.way().String(); got != "direct: max_requests of upstream 127.0.0.1:9 counts requests inside reverse_proxy" {
		t.Errorf("max_requests: %q", got)
	}
}

// TestAProxyThatCountsSeesAllRequests has two proxies of one configuration share
// an upstream, whose requests one of them counts.
func TestAProxyThatCountsSeesAllRequests(t *testing.T) {
	counts := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"127.0.0.1:9"}],"load_balancing":{"selection_policy":{"policy":"least_conn"}}}}`)
	beside := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"127.0.0.1:9"}]}}`)
	other := build(t, `{"policy":{"name":"%s"},"proxy":{"upstreams":[{"dial":"127.0.0.1:10"}]}}`)
	a := &App{handlers: []*Handler{counts, beside, other}}
	a.settleWays()
	if got := beside.way().String(); got != "direct: of another proxy: the selection policy least_conn may count requests inside reverse_proxy" {
		t.Errorf("the one beside goes %q", got)
	}
	if got := other.way().String(); got != "lean" {
		t.Errorf("one to another upstream goes %q", got)
	}
}

// TestWhichRequestsGoLean looks at single requests of a configuration that is.
func TestWhichRequestsGoLean(t *testing.T) {
	u := newUpstream(t)
	h := build(t, `{"policy":{"name":"%s"},"hedge":{"after":"1m"},"proxy":`+proxyTo(u.addr, u.addr)+`}`)
	forwardAuth := caddyhttp.MiddlewareHandler(stock(t, proxyTo(u.addr)))
	g := front(t, chain{logged{h}, forwardAuth})
	send := func(method, body string, header ...string) {
		t.Helper()
		req, _ := http.NewRequest(method, g.URL, strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	for _, c := range []struct {
		name string
		do   func()
		lean float64
	}{
		{"plain", func() { send("POST", "body") }, 1},
		{"hedged", func() { send("GET", "") }, 0},
		{"expectation", func() { send("POST", "body", "Expect", "100-continue") }, 0},
		{"upgrade", func() { send("POST", "", "Connection", "Upgrade", "Upgrade", "x") }, 0},
		{"incremental", func() { send("POST", "body", "Incremental", "?1") }, 0},
		{"after forward_auth", func() { send("POST", "body", "X-First", "1") }, 0},
	} {
		before := testutil.ToFloat64(sentLean)
		c.do()
		if got := testutil.ToFloat64(sentLean) - before; got != c.lean {
			t.Errorf("%s: %v lean, want %v", c.name, got, c.lean)
		}
	}
}

// logged puts its own body around the client's, as Caddy's access log does.
type logged struct{ caddyhttp.MiddlewareHandler }

func (l logged) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	r.Body = struct{ io.ReadCloser }{r.Body}
	return l.MiddlewareHandler.ServeHTTP(w, r, next)
}

// chain runs the second handler first where the request asks for it, as
// forward_auth does, and throws its answer away.
type chain struct{ h, first caddyhttp.MiddlewareHandler }

func (c chain) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Header.Get("X-First") != "" {
		if err := c.first.ServeHTTP(&nowhere{make(http.Header)}, r, next); err != nil {
			return err
		}
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		if _, told := repl.Get("http.reverse_proxy.status_code"); !told {
			return fmt.Errorf("the first proxy has told nothing")
		}
	}
	return c.h.ServeHTTP(w, r, next)
}
