package cache

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// sink is a writer that costs nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}

func benchmarked(b *testing.B, config string, size int) (*Handler, caddyhttp.Handler) {
	b.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	b.Cleanup(cancel)
	h := &Handler{Name: b.Name()}
	if err := json.Unmarshal([]byte(config), h); err != nil {
		b.Fatal(err)
	}
	if err := h.provision(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.Cleanup() })
	body := strings.Repeat("x", size)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		hd := w.Header()
		hd.Set("Cache-Control", "public, max-age=3600")
		hd.Set("Content-Type", "application/json")
		hd.Set("Etag", `"a"`)
		hd.Set("Vary", "Accept-Encoding")
		hd.Set("Via", "1.1 Caddy")
		_, err := io.WriteString(w, body)
		return err
	})
	return h, next
}

func benchmarkHit(b *testing.B, size int, fields ...string) {
	h, next := benchmarked(b, `{}`, size)
	w := &sink{make(http.Header)}
	r := request(w, "GET", "http://api.example.com/orders/1?page=2", append(fields, "Accept-Encoding: gzip, br")...)
	if err := h.ServeHTTP(w, r, next); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if err := h.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
	if got := w.header.Get("Age"); got == "" {
		b.Fatal("not a hit")
	}
}

func BenchmarkHit1KiB(b *testing.B)  { benchmarkHit(b, 1<<10) }
func BenchmarkHit1MiB(b *testing.B)  { benchmarkHit(b, 1<<20) }
func BenchmarkHit304(b *testing.B)   { benchmarkHit(b, 1<<10, `If-None-Match: "a"`) }
func BenchmarkHitRange(b *testing.B) { benchmarkHit(b, 1<<20, "Range: bytes=0-1023") }

func BenchmarkHitParallel(b *testing.B) {
	h, next := benchmarked(b, `{}`, 1<<10)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		w := &sink{make(http.Header)}
		r := request(w, "GET", "http://api.example.com/orders/1?page=2")
		for pb.Next() {
			clear(w.header)
			if err := h.ServeHTTP(w, r, next); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkBypass(b *testing.B) {
	h, next := benchmarked(b, `{}`, 1<<10)
	w := &sink{make(http.Header)}
	r := request(w, "POST", "http://api.example.com/orders/1")
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if err := h.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMiss(b *testing.B) {
	h, next := benchmarked(b, `{"collapse":{"off":true}}`, 1<<10)
	w := &sink{make(http.Header)}
	r := request(w, "GET", "http://api.example.com/orders/1?page=2", "Cache-Control: no-cache")
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if err := h.ServeHTTP(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
}
