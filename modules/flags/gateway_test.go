package flags

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// write puts text into the place of a file as an editor would.
func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// home is the storage of a gateway.
func home(t testing.TB) string { return filepath.Join(t.TempDir(), "storage") }

// provisioned returns a configuration's flags that are not started.
func provisioned(t testing.TB, storage, config string) (*App, error) {
	t.Helper()
	c := &caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: fmt.Appendf(nil, `{"module":"file_system","root":%q}`, storage),
		AppsRaw:    caddy.ModuleMap{appName: []byte(config)},
	}
	ctx, err := caddy.ProvisionContext(c)
	if err != nil {
		return nil, err
	}
	app, err := ctx.App(appName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.(*App).Cleanup() })
	return app.(*App), nil
}

// running returns flags that are started, from a file of rules.
func running(t testing.TB, file, more string) *App {
	t.Helper()
	a, err := provisioned(t, home(t), fmt.Sprintf(`{"sources":[{"source":"file","path":%q}]%s}`, file, more))
	if err != nil {
		t.Fatal(err)
	}
	start(t, a)
	return a
}

func start(t testing.TB, a *App) {
	t.Helper()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Stop() })
}

func rulesFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "flags.yaml")
	write(t, file, text)
	return file
}

// request is one as Caddy's server prepares it, from a client at 192.0.2.1.
func request(subject string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://api.test/orders", nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "192.0.2.1")
	exchange.Of(r).Identity.Subject = subject
	return r
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const half = "flags:\n  half:\n    split: {on: 50%, off: 50%}\n"

func TestAFlagIsEvaluatedOnceForACaller(t *testing.T) {
	a := running(t, rulesFile(t, half), "")
	r := request("alice")
	first := a.visitOf(r).give("half")
	a.visitOf(r).seen[0].variant = "kept" // what is remembered is what is given
	if got := a.visitOf(r).give("half").variant; got != "kept" {
		t.Errorf("the second look gives %q: it was evaluated again", got)
	}
	if notes := exchange.Of(r).Notes; len(notes) != 1 || notes[0] != (exchange.Note{Key: "flag.half", Value: first.variant}) {
		t.Errorf("the card says %v", notes)
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if got := repl.ReplaceAll("{sallyport.flag.half}|{sallyport.flag.none}", "?"); got != "kept|?" {
		t.Errorf("the placeholders are %q", got)
	}
}

func TestNothingIsRememberedOfACallerNotYetKnown(t *testing.T) {
	a := running(t, rulesFile(t, "flags:\n  who:\n    rules:\n      - {when: {subject: alice}, serve: on}\n"), "")
	r := request("")
	if got := a.visitOf(r).give("who").variant; got != "off" {
		t.Fatalf("an anonymous caller gets %q", got)
	}
	exchange.Of(r).Identity.Subject = "alice" // the token is verified
	if got := a.visitOf(r).give("who").variant; got != "on" {
		t.Errorf("the known caller gets %q, what was found for the unknown one", got)
	}
	if notes := exchange.Of(r).Notes; len(notes) != 1 || notes[0].Value != "on" {
		t.Errorf("the card says %v", notes)
	}
}

func TestAnonymousCallersAreKnownAgain(t *testing.T) {
	file := rulesFile(t, half)
	byAddress := running(t, file, "")
	one, again, other := request(""), request(""), request("")
	caddyhttp.SetVar(other.Context(), caddyhttp.ClientIPVarKey, "192.0.2.2")
	key := byAddress.visitOf(one).Key()
	if key != byAddress.visitOf(again).Key() || key == byAddress.visitOf(other).Key() {
		t.Error("an address is not one caller")
	}
	if strings.Contains(key, "192.0.2") || key == "" {
		t.Errorf("the key %q tells the address", key)
	}
	if hashed("2001:db8::1") != hashed("2001:db8::ffff") || hashed("2001:db8::1") == hashed("2001:db8:0:1::1") {
		t.Error("an IPv6 network is not one caller")
	}

	byCookie := running(t, file, `,"context":{"anonymous":"cookie"}`)
	h := &Handler{app: byCookie}
	var given string
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		given = byCookie.visitOf(r).give("half").variant
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, request(""), next); err != nil {
		t.Fatal(err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].Name != "sallyport_caller" {
		t.Fatalf("the answer sets %v", cookies)
	}
	first := given
	for range 20 { // twenty chances to get the other half
		r := request("")
		r.AddCookie(cookies[0])
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
		if given != first || len(w.Result().Cookies()) != 0 {
			t.Fatalf("with the cookie the caller gets %q and %v, first %q", given, w.Result().Cookies(), first)
		}
	}
	known := httptest.NewRecorder()
	if err := h.ServeHTTP(known, request("alice"), next); err != nil || len(known.Result().Cookies()) != 0 {
		t.Errorf("a known caller is given a cookie: %v, %v", known.Result().Cookies(), err)
	}
	forged := request("")
	forged.AddCookie(&http.Cookie{Name: "sallyport_caller", Value: "../../etc"})
	if key := byCookie.visitOf(forged).Key(); strings.Contains(key, "etc") {
		t.Errorf("what no gateway gave becomes the key %q", key)
	}
}

func TestABadFileKeepsTheRulesBeforeIt(t *testing.T) {
	file := rulesFile(t, "flags:\n  a: {serve: on}\n")
	storage := home(t)
	config := fmt.Sprintf(`{"sources":[{"source":"file","path":%q}]}`, file)
	a, err := provisioned(t, storage, config)
	if err != nil {
		t.Fatal(err)
	}
	start(t, a)
	variant := func(a *App) string { return a.visitOf(request("alice")).give("a").variant }
	if variant(a) != "on" || a.Ready(t.Context()) != nil {
		t.Fatalf("the flag is %q, readiness %v", variant(a), a.Ready(t.Context()))
	}
	write(t, file, "flags:\n  a:\n    serve: yes\n")
	eventually(t, "readiness tells line and key", func() bool {
		err := a.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "line 3: flags.a.serve: there is no variant 'yes'")
	})
	if variant(a) != "on" {
		t.Errorf("a mistake changed the flag to %q", variant(a))
	}
	eventually(t, "the good rules are kept", func() bool { return a.shelf.load(t.Context(), "file:"+file) != nil })

	// A process that starts now finds the last known rules.
	next, err := provisioned(t, storage, config)
	if err != nil {
		t.Fatalf("a gateway with last known rules does not start: %v", err)
	}
	if variant(next) != "on" || next.Ready(t.Context()) == nil {
		t.Errorf("it has %q, and readiness %v", variant(next), next.Ready(t.Context()))
	}
	if _, err := provisioned(t, home(t), config); err == nil || !strings.Contains(err.Error(), "line 3: flags.a.serve") {
		t.Errorf("one without them starts, or says %v", err)
	}

	write(t, file, "flags:\n  a: {serve: off}\n")
	eventually(t, "the mended file is in force", func() bool { return variant(a) == "off" && a.Ready(t.Context()) == nil })
}

func TestChangesAreFacts(t *testing.T) {
	told := make(chan exchange.Fact, 10)
	defer exchange.Listen("test", func(f exchange.Fact) { told <- f })()
	file := rulesFile(t, "flags:\n  a: {serve: on}\n  b: {serve: on}\n")
	a := running(t, file, "")
	eventually(t, "the first rules are known", func() bool {
		a.board.mu.Lock()
		defer a.board.mu.Unlock()
		return a.board.known["file:"+file] != nil
	})
	write(t, file, "flags:\n  a: {serve: off}\n  c: {serve: on}\n")
	for _, want := range []string{
		`flag-changed [flag=a source=file:F before={"serve":"on"} after={"serve":"off"}]`,
		`flag-removed [flag=b source=file:F before={"serve":"on"} after=]`,
		`flag-added [flag=c source=file:F before= after={"serve":"on"}]`,
	} {
		select {
		case f := <-told:
			got := strings.ReplaceAll(fmt.Sprint(f.Code, " ", f.Attrs), file, "F")
			if f.Kind != exchange.FlagChanged || got != want {
				t.Errorf("fact %s\n%s\nwant\n%s", f.Kind, got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no fact %s", want)
		}
	}
}
