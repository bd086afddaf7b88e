package unleash

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func TestValuesArriveChangeAndOutliveTheServer(t *testing.T) {
	t.Setenv("UNLEASH_TOKEN", "*:production.s3cret")
	s := serve(t, feature("a", true, share(20)))
	storage := inFolder(filepath.Join(t.TempDir(), "storage"))
	from := source(s.URL+"/api/", "token", "{env.UNLEASH_TOKEN}", "project", "shop")
	g := start(t, storage, from)
	eventually(t, "the flags arrive", func() bool { return g.gives("a", "alice") != "fallback" })
	first := g.wears("a", 1000)
	if on := slices.DeleteFunc(slices.Clone(first), func(v string) bool { return v != "on" }); len(on) < 100 || len(on) > 300 {
		t.Errorf("of 1000 callers %d are in a rollout of 20%%", len(on))
	}
	if got := g.gives("b", "alice"); got != "fallback" {
		t.Errorf("a flag that the server has not is %q", got)
	}
	eventually(t, "the server is asked for changes only", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.same > 1
	})
	s.set(func() {
		for _, asked := range s.asked {
			if asked != "GET /api/client/features?project=shop" {
				t.Errorf("the server was asked %s", asked)
			}
		}
		if len(s.tokens) != 1 || s.tokens["*:production.s3cret"] == 0 {
			t.Errorf("tokens %v", s.tokens)
		}
		s.features = feature("a", true, share(50))
	})
	eventually(t, "a change is noticed", func() bool { return !slices.Equal(first, g.wears("a", 1000)) })
	second := g.wears("a", 1000)
	for i := range first {
		if first[i] == "on" && second[i] != "on" {
			t.Errorf("growing the rollout took user-%d out of it", i)
		}
	}

	s.set(func() { s.down = true })
	eventually(t, "readiness tells of the outage", func() bool {
		err := g.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "flags of source unleash are") && strings.Contains(err.Error(), "status 503")
	})
	if got := g.wears("a", 1000); !slices.Equal(got, second) {
		t.Error("with the server down callers changed sides")
	}
	g.stop()
	s.Close()
	later := start(t, storage, from)
	if got := later.wears("a", 1000); !slices.Equal(got, second) {
		t.Error("after a restart without the server callers changed sides")
	}
	eventually(t, "readiness tells how old the flags are", func() bool {
		err := later.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "flags of source unleash are")
	})
}

func TestWhatAServerSaysAsVariants(t *testing.T) {
	variants := func(weight int) string {
		return fmt.Sprintf(`,"variants":[{"name":"blue","weight":%d,"weightType":"variable","stickiness":"default"}]`, weight)
	}
	s := serve(t, strings.Join([]string{
		feature("on", true, ""), feature("off", false, ""), feature("blue", true, variants(1000)),
		feature("weightless", true, variants(0)),
		feature("in", true, constrained(`{"contextName":"tenant","operator":"IN","values":["acme"]}`)),
		feature("out", true, constrained(`{"contextName":"tenant","operator":"IN","values":["globex"]}`)),
		feature("segment", true, `,"strategies":[{"name":"default","segments":[1]}]`),
		feature("lost", true, `,"strategies":[{"name":"default","segments":[2]}]`),
		feature("child", true, `,"dependencies":[{"feature":"on"}]`),
		feature("orphan", true, `,"dependencies":[{"feature":"gone"}]`),
		feature("mistyped", true, `,"strategies":[{"name":"flexibleRollout","parameters":{"groupId":1,"rollout":"50"}}]`),
	}, ","))
	s.segments = `{"id":1,"constraints":[{"contextName":"userId","operator":"IN","values":["alice"]}]}`
	g := start(t, inFolder(t.TempDir()), source(s.URL))
	eventually(t, "the flags arrive", func() bool { return g.gives("on", "alice") == "on" })
	for flag, want := range map[string]string{
		"off": "off", "blue": "blue", "weightless": "on", "in": "on", "out": "off", "segment": "on",
		"lost": "off", "child": "on", "orphan": "off", "mistyped": "fallback", "b": "fallback",
	} {
		if got := g.gives(flag, "alice"); got != want {
			t.Errorf("%s is %q, want %q", flag, got, want)
		}
	}
	if got := g.gives("segment", "bob"); got != "off" {
		t.Errorf("who is not in the segment gets %q", got)
	}
	if got := g.gives("off", "alice"); got != "off" {
		t.Errorf("after a flag without weights one that is off is %q", got)
	}
}

// The SDK hands counts and errors of evaluations to one goroutine: none of it
// may wait for the server, also where each evaluation makes an error.
func TestAStalledServerHoldsNobodyUp(t *testing.T) {
	release := make(chan struct{})
	var stalled, full sync.Once
	inStall := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answered := false
		full.Do(func() {
			answered = true
			fmt.Fprintf(w, `{"features":[%s]}`, feature("a", true, constrained(`{"contextName":"tenant","operator":"NUM_EQ","value":"1"}`)))
		})
		if !answered {
			stalled.Do(func() { close(inStall) })
			<-release
		}
	}))
	defer s.Close()
	defer close(release)
	g := start(t, inFolder(t.TempDir()), source(s.URL))
	eventually(t, "the flags arrive", func() bool { return g.gives("a", "alice") == "off" })
	<-inStall
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for range 200 {
				if got := g.gives("a", fmt.Sprint("user-", i)); got != "off" {
					t.Errorf("a caller gets %q", got)
				}
			}
		})
	}
	all.Wait()
}

// slow is a storage that takes nothing in before it is let go.
type slow struct {
	*certmagic.FileStorage
}

var letGo, storing chan struct{}

func init() {
	caddy.RegisterModule(slow{})
}

func (slow) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.test_slow", New: func() caddy.Module { return &slow{&certmagic.FileStorage{}} }}
}

func (s *slow) CertMagicStorage() (certmagic.Storage, error) {
	dir, err := os.MkdirTemp("", "slow")
	s.Path = dir
	return s, err
}

func (s *slow) Cleanup() error { return os.RemoveAll(s.Path) }

func (s *slow) Store(context.Context, string, []byte) error {
	select {
	case storing <- struct{}{}:
	default:
	}
	<-letGo
	return nil
}

func TestAStalledStorageHoldsNobodyUp(t *testing.T) {
	letGo, storing = make(chan struct{}), make(chan struct{}, 1)
	s := serve(t, feature("a", true, ""))
	g := start(t, `{"module":"test_slow"}`, source(s.URL))
	defer close(letGo)
	eventually(t, "the flags arrive", func() bool { return g.gives("a", "alice") == "on" })
	<-storing
	s.set(func() { s.features = feature("a", false, "") })
	eventually(t, "a change arrives while the last one is being written", func() bool { return g.gives("a", "alice") == "off" })
}

func TestAServerThatNeverAnswersDelaysNoStart(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	g := start(t, inFolder(t.TempDir()), source(s.URL))
	for i := range 100 {
		if got := g.gives("a", fmt.Sprint("user-", i)); got != "fallback" {
			t.Fatalf("a caller gets %q", got)
		}
	}
}

func TestChangesAreTold(t *testing.T) {
	told := make(chan exchange.Fact, 10)
	defer exchange.Listen("test", func(f exchange.Fact) { told <- f })()
	s := serve(t, feature("told", true, ""))
	g := start(t, inFolder(t.TempDir()), source(s.URL))
	eventually(t, "the flags arrive", func() bool { return g.gives("told", "alice") == "on" })
	// What there was when nobody looked is no change; so wait until it is known.
	eventually(t, "it is kept", func() bool {
		text, err := g.ctx.Storage().Load(t.Context(), shelfOf(t, g))
		return err == nil && strings.Contains(string(text), `"told"`)
	})
	s.set(func() { s.features = feature("told", false, "") })
	eventually(t, "the change is noticed", func() bool { return g.gives("told", "alice") == "off" })
	f := <-told
	got := fmt.Sprint(f.Kind, " ", f.Code, " ", f.Attrs[0])
	if want := "flag.changed flag-changed flag=told"; got != want {
		t.Errorf("fact %s\nwant %s", got, want)
	}
	if before, after := f.Attrs[2].String(), f.Attrs[3].String(); !strings.Contains(before, `"enabled":true`) || !strings.Contains(after, `"enabled":false`) {
		t.Errorf("from %s to %s", before, after)
	}
}

func shelfOf(t *testing.T, g *gateway) string {
	keys, err := g.ctx.Storage().List(t.Context(), "sallyport/flags", true)
	if err != nil {
		return ""
	}
	for _, key := range keys {
		if strings.Contains(key, "unleash") {
			return key
		}
	}
	return ""
}

func TestReloadsLeaveNothingBehind(t *testing.T) {
	s := serve(t, feature("a", true, ""))
	load := func(app string) {
		t.Helper()
		config, err := json.Marshal(map[string]any{
			"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
			"storage": json.RawMessage(inFolder(t.TempDir())),
			"apps":    map[string]any{"sallyport_flags": map[string]any{"sources": []any{json.RawMessage(source(s.URL, "app_name", app))}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.Load(config, true); err != nil {
			t.Fatal(err)
		}
	}
	load("first")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	s.CloseClientConnections()
	before := runtime.NumGoroutine()
	for i := range 50 {
		load(fmt.Sprint("app-", i/2)) // half of the reloads keep the client
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	left := 0
	clients.Range(func(_, _ any) bool {
		left++
		return true
	})
	if left > 0 {
		t.Errorf("%d clients are left", left)
	}
	s.CloseClientConnections()
	eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func TestAfterTheEndNothingBlocks(t *testing.T) {
	s := serve(t, feature("a", true, constrained(`{"contextName":"tenant","operator":"NUM_EQ","value":"1"}`)))
	g := start(t, inFolder(t.TempDir()), source(s.URL))
	eventually(t, "the flags arrive", func() bool { return g.gives("a", "alice") == "off" })
	g.stop()
	for range 20 {
		if got := g.gives("a", "alice"); got != "fallback" {
			t.Fatalf("a caller gets %q", got)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Setenv("UNLEASH_TOKEN", "s3cret")
	const url = "https://unleash.example.com/api"
	for from, want := range map[string]string{
		source(""): "the url is such as https://unleash.example.com/api, got ''",
		source("https://u:p@unleash.example.com/api"):                                    "a secret in the url would be shown",
		source(url, "token", "s3cret"):                                                   "token: it would be shown with the configuration",
		source(url, "token", "{env.NO_SUCH_ONE}"):                                        "NO_SUCH_ONE",
		source(url, "project", "a&b"):                                                    "project is of letters",
		fmt.Sprintf(`{"source":"unleash","url":%q,"refresh":%d}`, url, time.Millisecond): "refresh is 100ms or more, got 1ms",
	} {
		_, err := caddy.ProvisionContext(&caddy.Config{
			Admin:   &caddy.AdminConfig{Disabled: true},
			AppsRaw: caddy.ModuleMap{"sallyport_flags": []byte(`{"sources":[` + from + `]}`)},
		})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want %q", from, err, want)
		}
	}
}
