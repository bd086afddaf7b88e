package launchdarkly

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"github.com/launchdarkly/go-server-sdk-evaluation/v3/ldbuilders"
	"github.com/launchdarkly/go-server-sdk-evaluation/v3/ldmodel"
	"github.com/launchdarkly/go-server-sdk/v7/testhelpers/ldservices"
	"github.com/launchdarkly/go-test-helpers/v3/httphelpers"

	"github.com/launchdarkly/go-sdk-common/v3/ldvalue"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags"
)

const theKey = "sdk-0f0f-secret"

// vendor is the vendor's stream as the SDK's own tests play it.
type vendor struct {
	*httptest.Server
	stream httphelpers.SSEStreamControl
	mu     sync.Mutex // guards the rest
	keys   []string
	refuse bool
}

func stream(t *testing.T, all ...any) *vendor {
	handler, control := ldservices.ServerSideStreamingServiceHandler(ldservices.NewServerSDKData().Flags(all...).ToPutEvent())
	v := &vendor{stream: control}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		v.keys = append(v.keys, r.Header.Get("Authorization"))
		refuse := v.refuse
		v.mu.Unlock()
		if refuse {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(v.end)
	return v
}

// end takes the server away under its connections.
func (v *vendor) end() {
	_ = v.stream.Close()
	v.CloseClientConnections()
	v.Close()
}

func (v *vendor) shut(refuse bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refuse = refuse
}

func (v *vendor) heard() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.keys...)
}

func (v *vendor) patch(t *testing.T, flag ldmodel.FeatureFlag) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"path": "/flags/" + flag.Key, "data": flag})
	if err != nil {
		t.Fatal(err)
	}
	v.stream.Send(httphelpers.SSEEvent{Event: "patch", Data: string(text)})
}

// truth is a flag that is the same for everybody.
func truth(key string, version int, is bool) ldmodel.FeatureFlag {
	which := 0
	if is {
		which = 1
	}
	return ldbuilders.NewFlagBuilder(key).Version(version).On(true).
		Variations(ldvalue.Bool(false), ldvalue.Bool(true)).FallthroughVariation(which).OffVariation(0).Build()
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
		AppsRaw:    caddy.ModuleMap{"sallyport_flags": []byte(`{"sources":[` + source + `],"defaults":{"a":"fallback","b":"fallback","pool":"fallback"}}`)},
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
		_ = g.Cleanup()
		// A context that was only provisioned ends without its modules' Cleanup.
		var keys []any
		links.Range(func(key, _ any) bool {
			keys = append(keys, key)
			return true
		})
		for _, key := range keys {
			_, _ = links.Delete(key)
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

func sourceOf(v *vendor) string {
	return fmt.Sprintf(`{"source":"launchdarkly","sdk_key":"{env.LD_KEY}","stream":%q}`, v.URL)
}

func TestFlagsAreStreamedAndOutliveTheVendor(t *testing.T) {
	t.Setenv("LD_KEY", theKey)
	split := ldbuilders.NewFlagBuilder("pool").Version(1).On(true).Variations(ldvalue.String("blue"), ldvalue.String("green")).
		AddTarget(1, "alice").FallthroughVariation(0).Build()
	v := stream(t, truth("a", 1, true), split)
	storage := filepath.Join(t.TempDir(), "storage")
	g := start(t, storage, sourceOf(v))
	eventually(t, "the flags arrive", func() bool { return g.gives("a", "bob") == "on" && g.Ready(t.Context()) == nil })
	if got := v.heard(); len(got) != 1 || got[0] != theKey {
		t.Errorf("the vendor was asked with %q", got)
	}
	for flag, want := range map[string]string{"pool": "blue", "b": "fallback"} {
		if got := g.gives(flag, "bob"); got != want {
			t.Errorf("flag %s is %q, want %q", flag, got, want)
		}
	}
	if got := g.gives("pool", "alice"); got != "green" {
		t.Errorf("a caller who is a target gets %q", got)
	}
	v.patch(t, truth("a", 2, false))
	eventually(t, "a change is in force", func() bool { return g.gives("a", "bob") == "off" })

	v.end()
	eventually(t, "readiness notices", func() bool { return g.Ready(t.Context()) != nil })
	if err := g.Ready(t.Context()).Error(); !strings.Contains(err, "flags of source launchdarkly are") || strings.Contains(err, theKey) {
		t.Errorf("readiness says %s", err)
	}
	if got := g.gives("a", "bob"); got != "off" {
		t.Errorf("without the vendor the flag is %q", got)
	}
	g.stop()

	later := start(t, storage, sourceOf(v))
	if a, pool := later.gives("a", "bob"), later.gives("pool", "alice"); a != "off" || pool != "green" {
		t.Errorf("after a restart the flags are %q and %q", a, pool)
	}
	if err := later.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), " old: ") {
		t.Errorf("after a restart readiness says %v", err)
	}
	later.stop()
	never := start(t, filepath.Join(t.TempDir(), "storage"), sourceOf(v))
	if got := never.gives("a", "bob"); got != "fallback" {
		t.Errorf("a gateway that never had the flags gives %q", got)
	}
	if err := never.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "never had") {
		t.Errorf("and readiness says %v", err)
	}
	never.stop()
	err := filepath.WalkDir(storage, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), theKey) {
			t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A key that is refused may be one that is being rotated: the vendor's SDK gives
// up for good, the gateway asks again with what the file then holds.
func TestARotatedKeyIsReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old-key")
	v := stream(t, truth("a", 1, true))
	v.shut(true)
	g := start(t, filepath.Join(t.TempDir(), "storage"), fmt.Sprintf(`{"source":"launchdarkly","sdk_key":"{file.%s}","stream":%q}`, file, v.URL))
	eventually(t, "readiness says what is refused", func() bool {
		err := g.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "401 Unauthorized")
	})
	write("new-key")
	v.shut(false)
	eventually(t, "the flags arrive", func() bool { return g.gives("a", "bob") == "on" })
	if keys := v.heard(); keys[0] != "old-key" || keys[len(keys)-1] != "new-key" {
		t.Errorf("asked with %q", keys)
	}
}

func TestChangesAreTold(t *testing.T) {
	t.Setenv("LD_KEY", theKey)
	told := make(chan exchange.Fact, 10)
	defer exchange.Listen("test", func(f exchange.Fact) { told <- f })()
	v := stream(t, truth("a", 1, true))
	g := start(t, filepath.Join(t.TempDir(), "storage"), sourceOf(v))
	eventually(t, "the flags arrive", func() bool { return g.gives("a", "bob") == "on" })
	// What was there first is no change, and is known once it is written down.
	eventually(t, "the first flags are known", func() bool {
		known := false
		links.Range(func(_, held any) bool {
			l := held.(*link)
			l.keepMu.Lock()
			defer l.keepMu.Unlock()
			known = l.kept != ""
			return true
		})
		return known
	})
	v.patch(t, truth("a", 2, false))
	select {
	case f := <-told:
		var before, after ldmodel.FeatureFlag
		if err := json.Unmarshal([]byte(f.Attrs[2].Value.String()), &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(f.Attrs[3].Value.String()), &after); err != nil {
			t.Fatal(err)
		}
		if f.Code != "flag-changed" || f.Attrs[0].Value.String() != "a" || f.Attrs[1].Value.String() != "launchdarkly:env.LD_KEY" ||
			before.Version != 1 || after.Version != 2 {
			t.Errorf("fact %s %v", f.Code, f.Attrs)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("no fact")
	}
}

func TestRefused(t *testing.T) {
	t.Setenv("LD_KEY", theKey)
	for source, want := range map[string]string{
		`{"source":"launchdarkly"}`:                                                                    "SDK key: it is missing; write it as {env.",
		`{"source":"launchdarkly","sdk_key":"` + theKey + `"}`:                                         "SDK key: it would be shown with the configuration; write it as {env.",
		`{"source":"launchdarkly","sdk_key":"{env.NO_SUCH_ONE}"}`:                                      "NO_SUCH_ONE",
		`{"source":"launchdarkly","sdk_key":"{env.LD_KEY}","stream":"relay:8030"}`:                     "got 'relay:8030'",
		`{"source":"launchdarkly","sdk_key":"{env.LD_KEY}","stream":"https://u:` + theKey + `@relay"}`: "got '…@relay'",
	} {
		_, err := caddy.ProvisionContext(&caddy.Config{
			Admin:   &caddy.AdminConfig{Disabled: true},
			AppsRaw: caddy.ModuleMap{"sallyport_flags": []byte(`{"sources":[` + source + `]}`)},
		})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), theKey) {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
}
