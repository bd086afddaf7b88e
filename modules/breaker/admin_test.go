package breaker

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// office serves the admin endpoint as Caddy's admin server would.
func office(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := new(Admin).serve(w, r); err != nil {
			var ae caddy.APIError
			if !errors.As(err, &ae) {
				t.Errorf("the error is no APIError: %v", err)
			}
			http.Error(w, ae.Message, ae.HTTPStatus)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestCommandShowsAndForces(t *testing.T) {
	dead := deadAddr(t)
	h := build(t, `{"policy":{"name":"%s","min_requests":1},"proxy":`+proxyTo(dead)+`}`)
	g := serve(t, h)
	g.get(t, "/")
	admin, name := office(t), h.Policy.Name

	show := func(args []string, ttl time.Duration, why string) string {
		t.Helper()
		list, err := call(admin, args, ttl, why)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := table(&b, list, time.Now()); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, tt := range []struct {
		args []string
		ttl  time.Duration
		why  string
		want []string
	}{
		{[]string{name}, 0, "", []string{"BREAKER", name, dead, "open", "consecutive", "connection refused"}},
		{[]string{"force_closed", name}, time.Hour, "maintenance", []string{"forced_closed", "1h0m0s", "forced: maintenance"}},
		{[]string{"force_open", name, dead}, time.Minute, "disk full", []string{"forced_open", "forced: disk full"}},
		{[]string{"disable", name}, time.Minute, "try", []string{"disabled"}},
		{[]string{"reset", name}, 0, "done", []string{"closed", "reset: done"}},
	} {
		got := show(tt.args, tt.ttl, tt.why)
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("breakers %v prints\n%swant %q in it", tt.args, got, w)
			}
		}
	}
	if s := h.fixed[0].State(); s != circuit.Closed {
		t.Errorf("in the end the circuit is %s", s)
	}
}

func TestAdminRefuses(t *testing.T) {
	h := build(t, `{"policy":{"name":"%s"},"proxy":`+proxyTo(deadAddr(t))+`}`)
	name := h.Policy.Name
	admin := office(t)
	for _, tt := range []struct {
		name, method, body string
		status             int
		want               string
	}{
		{"method", "DELETE", "", 405, "takes GET and POST"},
		{"no JSON", "POST", "force it", 400, "read the order"},
		{"unknown member", "POST", `{"breaker":"x","force":true}`, 400, "unknown field"},
		{"unknown action", "POST", `{"breaker":"x","action":"open","reason":"r"}`, 400, "force_open, force_closed, disable or reset, got 'open'"},
		{"no reason", "POST", `{"breaker":"x","action":"force_open","ttl":"1m"}`, 400, "reason are required"},
		{"no ttl", "POST", `{"breaker":"x","action":"force_open","reason":"r"}`, 400, "ttl takes a duration up to 24h"},
		{"for ever", "POST", `{"breaker":"x","action":"force_open","reason":"r","ttl":"25h"}`, 400, "got '25h'"},
		{"reset with ttl", "POST", `{"breaker":"x","action":"reset","reason":"r","ttl":"1m"}`, 400, "reset takes no ttl"},
		{"unknown breaker", "POST", `{"breaker":"nobody","action":"reset","reason":"r"}`, 404, "no circuit of breaker 'nobody'"},
		{"unknown upstream", "POST", `{"breaker":"` + name + `","upstream":"x:1","action":"reset","reason":"r"}`, 404, "upstream 'x:1'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, _ := http.NewRequestWithContext(t.Context(), tt.method, "http://"+admin, strings.NewReader(tt.body))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := readAll(res)
			if err != nil || res.StatusCode != tt.status || !strings.Contains(text, tt.want) {
				t.Errorf("got %d %q, want %d with %q", res.StatusCode, text, tt.status, tt.want)
			}
		})
	}
}
