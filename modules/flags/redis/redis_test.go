package redis_test

import (
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
	_ "github.com/sallyport-gateway/sallyport/modules/flags/redis"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// gateway is the flags of one configuration.
type gateway struct {
	*flags.App
	match caddyhttp.RequestMatcherWithError
	stop  func()
}

// start starts one whose flag `a` is off by default.
func start(t *testing.T, storage, redis string) *gateway {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: fmt.Appendf(nil, `{"module":"file_system","root":%q}`, storage),
		AppsRaw: caddy.ModuleMap{
			"sallyport_redis": []byte(redis),
			"sallyport_flags": []byte(`{"sources":[{"source":"redis"}],"defaults":{"a":"off"}}`),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	well, err := ctx.App("sallyport_redis")
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("sallyport_flags")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ctx.LoadModuleByID("http.matchers.flag", []byte(`{"flag":"a","variants":["on"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := app.(*flags.App).Start(); err != nil {
		t.Fatal(err)
	}
	g := &gateway{App: app.(*flags.App), match: m.(caddyhttp.RequestMatcherWithError)}
	g.stop = sync.OnceFunc(func() {
		_ = app.(*flags.App).Stop()
		_ = app.(*flags.App).Cleanup()
		_ = well.(caddy.CleanerUpper).Cleanup()
	})
	t.Cleanup(g.stop)
	return g
}

// on says whether alice has the flag.
func (g *gateway) on(t *testing.T) bool {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://api.test/", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
	exchange.Of(r).Identity.Subject = "alice"
	on, err := g.match.MatchWithError(r)
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// order changes the flag through the admin API of the gateway started last.
func order(method, definition string) error {
	r := httptest.NewRequest(method, "http://localhost/sallyport/flags/a?by=eve", strings.NewReader(definition))
	r.SetPathValue("flag", "a")
	r.Header.Set(exchange.CallHeader, "call-1")
	for _, route := range new(flags.Admin).Routes() {
		if strings.HasPrefix(route.Pattern, method+" ") && strings.HasSuffix(route.Pattern, "{flag}") {
			return route.Handler.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	return fmt.Errorf("no route for %s", method)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 60 s: %s", what)
		}
	}
}

func TestFlagsAreSharedInEveryForm(t *testing.T) {
	forms := []struct {
		name string
		make func(*testing.T) (config string, fail func())
	}{
		{"single", func(t *testing.T) (string, func()) {
			s := redistest.Start(t)
			return single(s), func() { s.Stop(); s.Restart() } // it comes back empty
		}},
		{"sentinel", func(t *testing.T) (string, func()) {
			w := redistest.StartWatched(t, "", "")
			return fmt.Sprintf(`{"clients":{"default":{"addresses":[%q],"sentinel":"main"}}}`, w.Sentinel.Addr), w.Primary.Stop
		}},
		{"cluster", func(t *testing.T) (string, func()) {
			c := redistest.StartCluster(t, 3, true)
			return fmt.Sprintf(`{"clients":{"default":{"cluster":true,"addresses":["%s"]}}}`, strings.Join(c.Addrs(), `","`)), c.Primaries[0].Stop
		}},
	}
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			config, fail := form.make(t)
			one := start(t, filepath.Join(t.TempDir(), "one"), config)
			two := start(t, filepath.Join(t.TempDir(), "two"), config)
			if one.on(t) || two.on(t) {
				t.Fatal("a flag that nobody wrote is on")
			}
			eventually(t, "the order is carried out", func() bool { return order(http.MethodPut, "serve: on") == nil })
			began := time.Now()
			if !two.on(t) {
				t.Error("the gateway that wrote the flag does not have it")
			}
			eventually(t, "the other gateway has it", func() bool { return one.on(t) })
			t.Logf("the other gateway has the flag after %s", time.Since(began))

			fail()
			for range 50 {
				if !one.on(t) || !two.on(t) {
					t.Fatal("a flag changed because Redis failed")
				}
			}
			eventually(t, "a write after the failure reaches both", func() bool {
				return order(http.MethodPut, "serve: off") == nil && !one.on(t) && !two.on(t)
			})
			eventually(t, "readiness is good again", func() bool { return one.Ready(t.Context()) == nil })
		})
	}
}

func single(s *redistest.Server) string {
	return fmt.Sprintf(`{"clients":{"default":{"url":"redis://%s"}}}`, s.Addr)
}

func TestARedisThatForgetsIsGivenTheFlagsBack(t *testing.T) {
	s := redistest.Start(t)
	g := start(t, filepath.Join(t.TempDir(), "one"), single(s))
	if err := order(http.MethodPut, "serve: on"); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	eventually(t, "readiness tells", func() bool {
		err := g.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "flags of source redis are")
	})
	s.Restart()
	eventually(t, "the record is there again", func() bool {
		return strings.Contains(s.Admin().HGet(t.Context(), "sallyport:flags:{default}:rules", "a").Val(), `"serve":"on"`)
	})
	if !g.on(t) {
		t.Error("the flag is lost")
	}
}

func TestWhatWasKnownOutlivesTheProcess(t *testing.T) {
	s, storage := redistest.Start(t), filepath.Join(t.TempDir(), "one")
	g := start(t, storage, single(s))
	if err := order(http.MethodPut, "serve: on"); err != nil {
		t.Fatal(err)
	}
	g.stop()
	s.Stop()
	later := start(t, storage, single(s))
	if !later.on(t) {
		t.Error("without Redis a restarted gateway has the default, not the last known value")
	}
	s.Restart()
	eventually(t, "the source is ready", func() bool { return later.Ready(t.Context()) == nil })
	if !later.on(t) {
		t.Error("Redis came back empty, and the flag is lost")
	}
}

func TestAWriteIsAFactWithItsOrder(t *testing.T) {
	told := make(chan string, 10)
	defer exchange.Listen("test", func(f exchange.Fact) { told <- fmt.Sprint(f.Code, " ", f.Order, " ", f.Attrs[2:]) })()
	s := redistest.Start(t)
	start(t, filepath.Join(t.TempDir(), "one"), single(s))
	steps := []struct{ method, text, want string }{
		{http.MethodPut, "serve: on", `flag-added call-1 [before= after={"serve":"on"} by=eve]`},
		{http.MethodPut, "split: {on: 5%, off: 95%}", `flag-changed call-1 [before={"serve":"on"} after={"split":{"on":"5%","off":"95%"}} by=eve]`},
		{http.MethodDelete, "", `flag-removed call-1 [before={"split":{"on":"5%","off":"95%"}} after= by=eve]`},
	}
	for _, step := range steps {
		if err := order(step.method, step.text); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != step.want {
			t.Errorf("fact %s\nwant %s", got, step.want)
		}
	}
	if err := order(http.MethodPut, "serve: yes"); err == nil || !strings.Contains(err.Error(), "line 1: a.serve: there is no variant 'yes'") {
		t.Errorf("a mistake is answered with %v", err)
	}

	// What is written past the gateways is noticed and told.
	admin := s.Admin()
	admin.HSet(t.Context(), "sallyport:flags:{default}:rules", "a", `{"definition":{"serve":"on"}}`)
	admin.Incr(t.Context(), "sallyport:flags:{default}:version")
	select {
	case got := <-told:
		if want := `flag-added  [before= after={"serve":"on"}]`; got != want {
			t.Errorf("fact %s\nwant %s", got, want)
		}
	case <-time.After(60 * time.Second):
		t.Error("nobody told of it")
	}
}

func TestRefused(t *testing.T) {
	for want, apps := range map[string]caddy.ModuleMap{
		"flags source redis needs the global option 'redis'": {"sallyport_flags": []byte(`{"sources":[{"source":"redis"}]}`)},
		"there is no redis named 'other'": {
			"sallyport_flags": []byte(`{"sources":[{"source":"redis","client":"other"}]}`),
			"sallyport_redis": []byte(`{"clients":{"default":{"url":"redis://127.0.0.1"}}}`),
		},
	} {
		_, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: apps})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
