package cache

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// kitchen is a cache with an origin behind it, in a time of its own.
type kitchen struct {
	t      *testing.T
	h      *Handler
	app    *App
	origin func(w http.ResponseWriter, r *http.Request) error

	mu   sync.Mutex
	seen []*http.Request
}

// stock returns a kitchen whose handler has this configuration. It must be
// called in a synctest bubble if the test moves time.
func stock(t *testing.T, config string) *kitchen {
	t.Helper()
	k := &kitchen{t: t, app: new(App)}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := k.app.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	k.h = &Handler{keeper: k.app}
	if err := json.Unmarshal([]byte(config), k.h); err != nil {
		t.Fatal(err)
	}
	if k.h.Name == "" {
		k.h.Name = t.Name()
	}
	if err := k.h.provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := k.app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = k.app.Stop()
		_ = k.h.Cleanup()
	})
	return k
}

// timed runs f in a bubble whose clock only f moves.
func timed(t *testing.T, config string, f func(t *testing.T, k *kitchen)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, stock(t, config)) })
}

// answers has the origin answer everything with this.
func (k *kitchen) answers(status int, body string, fields ...string) {
	k.origin = func(w http.ResponseWriter, _ *http.Request) error {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(status)
		_, err := io.WriteString(w, body)
		return err
	}
}

func (k *kitchen) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	k.mu.Lock()
	k.seen = append(k.seen, r.Clone(context.Background()))
	k.mu.Unlock()
	return k.origin(w, r)
}

// asked is how often the origin was asked so far.
func (k *kitchen) asked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.seen)
}

func (k *kitchen) last() *http.Request {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen[len(k.seen)-1]
}

// request makes a request as Caddy's server hands it to the routes.
func request(w http.ResponseWriter, method, target string, fields ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
}

func (k *kitchen) do(method, target string, fields ...string) *httptest.ResponseRecorder {
	k.t.Helper()
	w := httptest.NewRecorder()
	if err := k.serve(w, request(w, method, target, fields...)); err != nil {
		k.t.Fatalf("%s %s: %v", method, target, err)
	}
	return w
}

func (k *kitchen) serve(w http.ResponseWriter, r *http.Request) error {
	return k.h.ServeHTTP(w, r, caddyhttp.HandlerFunc(k.ServeHTTP))
}

func (k *kitchen) get(fields ...string) *httptest.ResponseRecorder {
	k.t.Helper()
	return k.do("GET", "http://a.example/x", fields...)
}

// expect fails unless the origin was asked so often, and says why it matters.
func (k *kitchen) expect(asked int, why string) {
	k.t.Helper()
	if got := k.asked(); got != asked {
		k.t.Errorf("the origin was asked %d times, want %d: %s", got, asked, why)
	}
}

func TestAFreshAnswerIsServedFromTheStore(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		k.answers(200, "hello", "Cache-Control: max-age=60", "Content-Type: text/plain", "X-Own: 1")
		first := k.get()
		time.Sleep(7 * time.Second)
		second := k.get()
		k.expect(1, "the answer is fresh")
		if second.Body.String() != "hello" || second.Code != 200 || second.Header().Get("X-Own") != "1" {
			t.Errorf("second answer: %d %v %q", second.Code, second.Header(), second.Body)
		}
		if got := second.Header().Get("Age"); got != "7" {
			t.Errorf("Age is %q, want 7", got)
		}
		if got := first.Header().Get("Cache-Status"); got != "Sallyport; fwd=uri-miss; fwd-status=200; stored" {
			t.Errorf("first Cache-Status is %q", got)
		}
		if got := second.Header().Get("Cache-Status"); got != "Sallyport; hit; ttl=53" {
			t.Errorf("second Cache-Status is %q", got)
		}
		time.Sleep(54 * time.Second)
		k.get()
		k.expect(2, "the answer is stale after 61 s")
	})
}

// TestEveryWayToAnswerAWriteIsSeen: a handler need not call WriteHeader.
func TestEveryWayToAnswerAWriteIsSeen(t *testing.T) {
	ways := map[string]func(http.ResponseWriter) error{
		"WriteHeader": func(w http.ResponseWriter) error { w.WriteHeader(204); return nil },
		"Write":       func(w http.ResponseWriter) error { _, err := io.WriteString(w, "ok"); return err },
		"ReadFrom":    func(w http.ResponseWriter) error { _, err := io.Copy(w, strings.NewReader("ok")); return err },
		"Flush":       func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"nothing":     func(http.ResponseWriter) error { return nil },
	}
	for name, answer := range ways {
		t.Run(name, func(t *testing.T) {
			timed(t, `{}`, func(t *testing.T, k *kitchen) {
				k.answers(200, "old", "Cache-Control: max-age=60")
				k.get()
				k.origin = func(w http.ResponseWriter, _ *http.Request) error { return answer(w) }
				k.do("PUT", "http://a.example/x")
				k.answers(200, "new", "Cache-Control: max-age=60")
				if w := k.get(); w.Body.String() != "new" {
					t.Errorf("after the write the answer is %q", w.Body)
				}
			})
		})
	}
}

func TestHitsAreCountedByRoute(t *testing.T) {
	k := stock(t, `{}`)
	k.origin = func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.Path == "/down" {
			return caddyhttp.Error(http.StatusBadGateway, io.ErrUnexpectedEOF)
		}
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := io.WriteString(w, "x")
		return err
	}
	ask := func(route, method, path string) {
		w := httptest.NewRecorder()
		r := request(w, method, "http://a.example"+path)
		exchange.Of(r).Route = route
		_ = k.serve(w, r) // that one fails is the point
	}
	for _, path := range []string{"/1", "/1", "/1", "/2", "/down"} {
		ask("api/*", "GET", path)
	}
	ask("api/*", "POST", "/1")
	ask("other", "GET", "/2")
	for labels, want := range map[[2]string]float64{
		{"api/*", "hit"}: 2, {"api/*", "miss"}: 3, {"api/*", "bypass"}: 1, {"other", "hit"}: 1, {"other", "miss"}: 0,
	} {
		if got := testutil.ToFloat64(routes.WithLabelValues(t.Name(), labels[0], labels[1])); got != want {
			t.Errorf("%v: %v requests, want %v", labels, got, want)
		}
	}
}

// TestAgeCountsFromTheRequest: an Age that the answer brings was right when it
// was asked for, or later (RFC 9111 section 4.2.3).
func TestAgeCountsFromTheRequest(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		k.origin = func(w http.ResponseWriter, _ *http.Request) error {
			time.Sleep(5 * time.Second)
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Age", "10")
			_, err := io.WriteString(w, "x")
			return err
		}
		k.get()
		if got := k.get().Header().Get("Age"); got != "15" {
			t.Errorf("Age is %q, want 15: 10 as it came, and 5 on the way", got)
		}
	})
}
