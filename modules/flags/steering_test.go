package flags

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/open-feature/go-sdk/openfeature"
)

// pilot is a controller that does as the test says.
type pilot struct {
	Name string `json:"flag"`

	mu       sync.Mutex // guards what follows
	hold     Steering
	finished []Outcome
}

func init() { caddy.RegisterModule(new(pilot)) }

func (*pilot) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: controllers + ".pilot", New: func() caddy.Module { return new(pilot) }}
}
func (p *pilot) Flag() string { return p.Name }
func (p *pilot) Start(s Steering) error {
	p.hold = s
	return nil
}
func (p *pilot) Finished(o Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished = append(p.finished, o)
}
func (*pilot) Stop() {}

const steered = `{"sources":[{"source":"file","path":%q}],"controllers":[{"controller":"pilot","flag":"half"}]}`

func steeredApp(t *testing.T, storage, file string) (*App, *pilot) {
	t.Helper()
	a, err := provisioned(t, storage, fmt.Sprintf(steered, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	return a, a.controllers["half"].(*pilot)
}

func TestASteeredSplitOutlivesReloadAndRestart(t *testing.T) {
	file, storage := rulesFile(t, half), home(t)
	a, p := steeredApp(t, storage, file)
	if got := p.hold.Split(); len(got) != 2 || got[0].Weight != 50_000 {
		t.Errorf("at first the split is %v", got)
	}
	if err := p.hold.Set(split("on", Whole)); err != nil {
		t.Fatal(err)
	}
	if err := p.hold.Set(split("blue", Whole)); err == nil || !strings.Contains(err.Error(), "flag 'half' has no variant 'blue'") {
		t.Errorf("a variant that the flag has not is set: %v", err)
	}
	all := func(a *App, want string) {
		t.Helper()
		for i := range 50 {
			if got := a.visitOf(request(fmt.Sprint("user-", i))).give("half").variant; got != want {
				t.Fatalf("user-%d gets %q, want %q", i, got, want)
			}
		}
	}
	all(a, "on")
	next, _ := steeredApp(t, storage, file) // a reload
	all(next, "on")
	for _, o := range []*App{a, next} { // a restart: nobody holds the board
		if err := o.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := o.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	later, p := steeredApp(t, storage, file)
	all(later, "on")
	if err := p.hold.Set(nil); err != nil {
		t.Fatal(err)
	}
	if got := p.hold.Split(); len(got) != 2 {
		t.Errorf("given back, the split is %v", got)
	}
	if err := later.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestAControllerHearsHowRequestsEnd(t *testing.T) {
	a, p := steeredApp(t, home(t), rulesFile(t, half))
	defer func() { _ = a.Stop() }()
	h := &Handler{app: a}
	ask := func(next caddyhttp.HandlerFunc) (w *httptest.ResponseRecorder) {
		defer func() { _ = recover() }()
		w = httptest.NewRecorder()
		_ = h.ServeHTTP(w, request("alice"), caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			a.visitOf(r).give("half")
			return next(w, r)
		}))
		return w
	}
	ask(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(201); return nil })
	ask(func(w http.ResponseWriter, _ *http.Request) error { _, err := w.Write([]byte("x")); return err })
	ask(func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, nil) })
	ask(func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) })
	var got []string
	for _, o := range p.finished {
		got = append(got, fmt.Sprintf("%d %t %t", o.Status, o.Split, o.Aborted))
		if o.Variant == "" || o.Exchange == nil || o.Took <= 0 {
			t.Errorf("an outcome is %+v", o)
		}
	}
	if want := "[201 true false 200 true false 502 true false 0 true true]"; fmt.Sprint(got) != want {
		t.Errorf("it heard %v, want %s", got, want)
	}
}

func TestTwoControllersOfAFlagAreRefused(t *testing.T) {
	_, err := provisioned(t, home(t), fmt.Sprintf(`{"sources":[{"source":"file","path":%q}],
		"controllers":[{"controller":"pilot","flag":"half"},{"controller":"pilot","flag":"half"}]}`, rulesFile(t, half)))
	if err == nil || !strings.Contains(err.Error(), "flag 'half' has two controllers") {
		t.Errorf("got %v", err)
	}
}

func TestOpenFeatureClientsSeeTheSameFlags(t *testing.T) {
	a := running(t, rulesFile(t, half+"  pool: {variants: [blue, green], serve: green}\n"), `,"defaults":{"gone":"on"}`)
	client := openfeature.NewClient(domain)
	for i := range 50 {
		name := fmt.Sprint("user-", i)
		want := a.visitOf(request(name)).give("half").variant == on
		if got := client.Boolean(t.Context(), "half", !want, openfeature.NewEvaluationContext(name, nil)); got != want {
			t.Errorf("%s: OpenFeature says %t, the gateway %t", name, got, want)
		}
	}
	who := openfeature.NewEvaluationContext("alice", nil)
	if got := client.String(t.Context(), "pool", "", who); got != "green" {
		t.Errorf("pool is %q", got)
	}
	if got := client.Boolean(t.Context(), "gone", false, who); !got {
		t.Error("a declared default is not given")
	}
	if _, err := client.BooleanValueDetails(t.Context(), "nowhere", true, who); err == nil || !strings.Contains(err.Error(), "FLAG_NOT_FOUND") {
		t.Errorf("an unknown flag gives %v", err)
	}
	if _, err := client.FloatValueDetails(t.Context(), "pool", 1, who); err == nil || !strings.Contains(err.Error(), "TYPE_MISMATCH") {
		t.Errorf("a number gives %v", err)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	a := running(b, "testdata/flags.yaml", `,"context":{"attributes":{"tenant":"{http.request.header.X-Tenant}"}}`)
	r := request("0d1f7c5e-8f4b-4a57-9a39-1d2a0d0f7c11")
	a.visitOf(r).give("half") // a request's first evaluation counts with its card
	b.ReportAllocs()
	for b.Loop() {
		v := a.visitOf(r)
		v.seen, v.keyed = v.seen[:0], false
		v.give("half")
	}
}

func BenchmarkVisit(b *testing.B) {
	a := running(b, "testdata/flags.yaml", `,"context":{"attributes":{"tenant":"{http.request.header.X-Tenant}"}}`)
	r := request("0d1f7c5e-8f4b-4a57-9a39-1d2a0d0f7c11")
	a.visitOf(r).give("half")
	b.ReportAllocs()
	for b.Loop() {
		a.visitOf(r).x.Flags = nil
		a.visitOf(r).give("half")
	}
}

func BenchmarkClient(b *testing.B) {
	running(b, "testdata/flags.yaml", `,"context":{"attributes":{"tenant":"{http.request.header.X-Tenant}"}}`)
	client, who := openfeature.NewClient(domain), openfeature.NewEvaluationContext("alice", nil)
	b.ReportAllocs()
	for b.Loop() {
		client.String(b.Context(), "half", "", who)
	}
}
