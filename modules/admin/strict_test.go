package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// What cannot be put on record is not made, and an outcome that cannot be put
// on record is not reported as a success.
func TestNothingHappensOffTheRecord(t *testing.T) {
	g := start(t)
	// A spool that has been closed stands for a disk that takes nothing more.
	made := 0
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			made++
			// It happens while the change is being made.
			if err := caddy.Stop(); err != nil {
				t.Error(err)
			}
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer endpoint.Close()
	h := handlerOf(t, g, endpoint.Listener.Addr().String())

	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, request("/load"), nil); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusServiceUnavailable || made != 1 {
		t.Errorf("outcome off the record: %d %s, %d calls made", w.Code, w.Body, made)
	}
	w = httptest.NewRecorder()
	if err := h.ServeHTTP(w, request("/load"), nil); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || made != 1 {
		t.Errorf("intent off the record: %d %s, %d calls made", w.Code, w.Body, made)
	}
}

func request(path string) *http.Request {
	return httptest.NewRequest(http.MethodPost, path, nil)
}

// handlerOf provisions a handler inside the running configuration.
func handlerOf(t *testing.T, g *gateway, upstream string) *Handler {
	t.Helper()
	h := &Handler{Upstream: upstream}
	if err := h.Provision(caddy.ActiveContext()); err != nil {
		t.Fatal(err)
	}
	return h
}
