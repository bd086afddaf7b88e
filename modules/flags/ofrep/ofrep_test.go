package ofrep

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
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

// server speaks the protocol as the specification describes it.
type server struct {
	*httptest.Server
	mu     sync.Mutex // guards the rest
	value  any
	down   bool
	asked  int
	tokens []string
	bodies []map[string]any
}

func serve(t *testing.T) *server {
	s := &server{value: true}
	s.Server = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.Close)
	return s
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.tokens = append(s.tokens, r.Header.Get("Authorization"))
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body)
	s.bodies = append(s.bodies, body)
	flag, ours := strings.CutPrefix(r.URL.Path, "/ofrep/v1/evaluate/flags/")
	switch {
	case s.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case !ours || r.Method != http.MethodPost:
		w.WriteHeader(http.StatusBadRequest)
	case flag != "a":
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"key":%q,"errorCode":"FLAG_NOT_FOUND"}`, flag)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"key": flag, "value": s.value, "reason": "TARGETING_MATCH", "variant": "v"})
	}
}

func (s *server) set(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

type gateway struct {
	*flags.App
	t    *testing.T
	ctx  caddy.Context
	stop func()
}

func start(t *testing.T, storage, source string) *gateway {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: fmt.Appendf(nil, `{"module":"file_system","root":%q}`, storage),
		AppsRaw:    caddy.ModuleMap{"sallyport_flags": []byte(`{"sources":[` + source + `],"defaults":{"a":"fallback","b":"fallback"}}`)},
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
		memories.Range(func(key, _ any) bool {
			keys = append(keys, key)
			return true
		})
		for _, key := range keys {
			_, _ = memories.Delete(key)
		}
	})
	t.Cleanup(g.stop)
	return g
}

// gives is the variant of a flag that a caller gets.
func (g *gateway) gives(flag, subject string) string {
	g.t.Helper()
	m, err := g.ctx.LoadModuleByID("http.matchers.flag", fmt.Appendf(nil, `{"flag":%q,"variants":["x"]}`, flag))
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

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 60 s: %s", what)
		}
	}
}

const patient = `,"timeout":"60s"`

func TestAnswersAreRememberedAndOutliveTheServer(t *testing.T) {
	t.Setenv("FLAGS_TOKEN", "s3cret")
	s := serve(t)
	storage := filepath.Join(t.TempDir(), "storage")
	source := fmt.Sprintf(`{"source":"ofrep","url":%q,"token":"{env.FLAGS_TOKEN}","ttl":"50ms"%s}`, s.URL, patient)
	g := start(t, storage, source)
	if got := g.gives("a", "alice"); got != "on" {
		t.Fatalf("true is %q", got)
	}
	s.set(func() {
		if s.asked != 1 || s.tokens[0] != "Bearer s3cret" || fmt.Sprint(s.bodies[0]) != "map[context:map[subject:alice targetingKey:alice]]" {
			t.Errorf("asked %d times, with %q and %v", s.asked, s.tokens, s.bodies)
		}
		s.value = "blue"
	})
	if got := g.gives("b", "alice"); got != "fallback" {
		t.Errorf("a flag that the server has not is %q", got)
	}
	eventually(t, "a change is noticed", func() bool { return g.gives("a", "alice") == "blue" })

	s.set(func() { s.down = true })
	for range 20 {
		if got := g.gives("a", "alice"); got != "blue" {
			t.Fatalf("with the server down the caller gets %q", got)
		}
	}
	if got := g.gives("a", "bob"); got != "fallback" {
		t.Errorf("a caller who is asked about for the first time gets %q", got)
	}
	if err := g.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "flags of source ofrep are") {
		t.Errorf("readiness says %v", err)
	}
	g.stop()
	later := start(t, storage, source)
	if got := later.gives("a", "alice"); got != "blue" {
		t.Errorf("after a restart the caller gets %q", got)
	}
	s.set(func() { s.down = false })
	eventually(t, "the server is asked again", func() bool { return later.gives("a", "bob") == "blue" && later.Ready(t.Context()) == nil })
}

func TestASlowServerHoldsNobodyUp(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	g := start(t, filepath.Join(t.TempDir(), "storage"), fmt.Sprintf(`{"source":"ofrep","url":%q,"timeout":"50ms"}`, s.URL))
	for i := range 100 { // waiting for each would take the server's time a hundred times
		if got := g.gives("a", fmt.Sprint("user-", i)); got != "fallback" {
			t.Fatalf("a caller gets %q", got)
		}
	}
}

func TestChangesAreTold(t *testing.T) {
	told := make(chan string, 10)
	defer exchange.Listen("test", func(f exchange.Fact) { told <- fmt.Sprintf("%s %s %v %v", f.Kind, f.Code, f.Attrs[0], f.Attrs[2:]) })()
	s := serve(t)
	g := start(t, filepath.Join(t.TempDir(), "storage"), fmt.Sprintf(`{"source":"ofrep","url":%q,"ttl":"1ms"%s}`, s.URL, patient))
	g.gives("a", "alice")
	s.set(func() { s.value = false })
	eventually(t, "the change is noticed", func() bool { return g.gives("a", "alice") == "off" })
	if got, want := <-told, "flag.changed flag-changed flag=a [before=true after=false]"; got != want {
		t.Errorf("fact %s\nwant %s", got, want)
	}
}

func TestRefused(t *testing.T) {
	for source, want := range map[string]string{
		`{"source":"ofrep"}`: "the url is such as https://flags.example.com, got ''",
		`{"source":"ofrep","url":"https://u:p@flags.example.com"}`:                         "a secret in the url would be shown",
		`{"source":"ofrep","url":"https://flags.example.com","token":"{env.NO_SUCH_ONE}"}`: "NO_SUCH_ONE",
	} {
		_, err := caddy.ProvisionContext(&caddy.Config{
			Admin:   &caddy.AdminConfig{Disabled: true},
			AppsRaw: caddy.ModuleMap{"sallyport_flags": []byte(`{"sources":[` + source + `]}`)},
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
}
