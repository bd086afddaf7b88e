package unleash

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags"
)

// server speaks the API of Unleash for backend clients.
type server struct {
	*httptest.Server
	mu       sync.Mutex // guards the rest
	features string
	segments string
	down     bool
	tokens   map[string]int
	asked    []string
	same     int
}

func serve(t *testing.T, features string) *server {
	s := &server{features: features, tokens: make(map[string]int)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.Close)
	return s
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.String())
	s.tokens[r.Header.Get("Authorization")]++
	if s.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body := fmt.Sprintf(`{"version":2,"features":[%s],"segments":[%s]}`, s.features, s.segments)
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(body)))
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		s.same++
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write([]byte(body))
}

func (s *server) set(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// feature is a flag's definition as the server gives it.
func feature(name string, enabled bool, more string) string {
	return fmt.Sprintf(`{"name":%q,"type":"release","enabled":%t,"project":"default","impressionData":true%s}`, name, enabled, more)
}

func share(percent int) string {
	return fmt.Sprintf(`,"strategies":[{"name":"flexibleRollout","constraints":[],"parameters":{"groupId":"a","rollout":"%d","stickiness":"default"},"variants":[]}]`, percent)
}

func constrained(constraint string) string {
	return `,"strategies":[{"name":"default","parameters":{},"constraints":[` + constraint + `]}]`
}

type gateway struct {
	*flags.App
	t    *testing.T
	ctx  caddy.Context
	mu   sync.Mutex // guards the loading of matchers by ctx
	stop func()
}

// defaults are the variants of flags that the server does not have.
var defaults = func() string {
	m := make(map[string]string)
	for _, flag := range strings.Fields("a b told on off blue weightless in out segment lost child orphan mistyped") {
		m[flag] = "fallback"
	}
	text, _ := json.Marshal(m) // of texts
	return string(text)
}()

// start runs the flags of one source alone.
func start(t *testing.T, storage, source string) *gateway {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: []byte(storage),
		AppsRaw: caddy.ModuleMap{"sallyport_flags": []byte(`{"sources":[` + source + `],
			"context":{"attributes":{"tenant":"acme"}},"defaults":` + defaults + `}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("sallyport_flags")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{App: app.(*flags.App), t: t, ctx: ctx}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	g.stop = sync.OnceFunc(func() {
		_ = g.Stop()
		// Nothing else lets go of what outlives a reload.
		var keys []any
		clients.Range(func(key, _ any) bool {
			keys = append(keys, key)
			return true
		})
		for _, key := range keys {
			_, _ = clients.Delete(key)
		}
	})
	t.Cleanup(g.stop)
	return g
}

func inFolder(folder string) string {
	return fmt.Sprintf(`{"module":"file_system","root":%q}`, folder)
}

func source(url string, more ...string) string {
	m := map[string]any{"source": "unleash", "url": url, "refresh": int64(100 * time.Millisecond)}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	text, _ := json.Marshal(m) // of texts and numbers
	return string(text)
}

// gives is the variant of a flag that a caller gets.
func (g *gateway) gives(flag, subject string) string {
	g.t.Helper()
	g.mu.Lock()
	m, err := g.ctx.LoadModuleByID("http.matchers.flag", fmt.Appendf(nil, `{"flag":%q,"variants":["x"]}`, flag))
	g.mu.Unlock()
	if err != nil {
		g.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "http://api.test/", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
	exchange.Of(r).Identity.Subject = subject
	if _, err := m.(caddyhttp.RequestMatcherWithError).MatchWithError(r); err != nil {
		g.t.Fatal(err)
	}
	return exchange.Of(r).Flags.Variant(flag)
}

// wears lists, for callers 0 to n-1, what each gets.
func (g *gateway) wears(flag string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = g.gives(flag, fmt.Sprint("user-", i))
	}
	return all
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(180 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 180 s: %s", what)
		}
	}
}
