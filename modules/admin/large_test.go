package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// noise is a body of n bytes that nobody has in memory.
func noise(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), n) }

// front serves a handler the way Caddy does.
func front(t *testing.T, h *Handler) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Bodies of any size pass through as they come, and their hash is on record.
func TestLargeBodiesPassThrough(t *testing.T) {
	const size = 96 << 20
	g := start(t)
	var got string
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte("{}"))
			return
		}
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil || n != size {
			t.Errorf("the endpoint reads %d bytes, %v", n, err)
		}
		got = hex.EncodeToString(sum.Sum(nil))
		_, _ = io.Copy(w, noise(size))
	}))
	defer endpoint.Close()
	url := front(t, handlerOf(t, g, endpoint.Listener.Addr().String()))

	sum := sha256.New()
	_, _ = io.Copy(sum, noise(size))
	want := hex.EncodeToString(sum.Sum(nil))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp, err := http.Post(url+"/load", "application/json", noise(size))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum.Reset()
	n, err := io.Copy(sum, resp.Body)
	runtime.ReadMemStats(&after)
	if err != nil || n != size || hex.EncodeToString(sum.Sum(nil)) != want || got != want {
		t.Errorf("%d bytes come back, %v; the endpoint read %s, want %s", n, err, got, want)
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > size/4 {
		t.Errorf("%d bytes were allocated for two bodies of %d: somebody holds them whole", taken, size)
	}
	g.events("the hash", func(e event) bool { return e.Type == "sallyport.admin.request" && e.Data.Unmapped.BodySHA256 == want })
}

// Each piece of an answer reaches the caller before the endpoint has the next,
// and so does each piece of a body the endpoint.
func TestBodiesStream(t *testing.T) {
	g := start(t)
	received := make(chan string)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte("{}"))
			return
		}
		c := http.NewResponseController(w)
		if err := c.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		piece := make([]byte, 4)
		for range 3 {
			if _, err := io.ReadFull(r.Body, piece); err != nil {
				t.Error(err)
				return
			}
			received <- string(piece)
		}
		for range 3 {
			_, _ = w.Write([]byte("pong"))
			_ = c.Flush()
			<-received
		}
	}))
	defer endpoint.Close()
	url := front(t, handlerOf(t, g, endpoint.Listener.Addr().String()))

	body, pieces := io.Pipe()
	go func() {
		for _, p := range []string{"one.", "two.", "end."} {
			_, _ = pieces.Write([]byte(p))
			if got := <-received; got != p {
				t.Errorf("the endpoint has %q, want %q", got, p)
			}
		}
		pieces.Close()
	}()
	resp, err := http.Post(url+"/load", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	piece := make([]byte, 4)
	for range 3 {
		if _, err := io.ReadFull(resp.Body, piece); err != nil || string(piece) != "pong" {
			t.Fatalf("the caller has %q, %v", piece, err)
		}
		received <- ""
	}
}
