package exchange

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// request returns a request as Caddy's server prepares it.
func request(t testing.TB) (*http.Request, *caddy.Replacer) {
	t.Helper()
	repl := caddy.NewReplacer()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://api.example.com/orders", nil)
	return caddyhttp.PrepareRequest(r, repl, w, nil), repl
}

func TestPlaceholders(t *testing.T) {
	full := func(x *Exchange) {
		x.Identity = Identity{Subject: "alice", Issuer: "main"}
		x.Zones = append(x.Zones,
			Zone{Name: "wide", Result: "allowed", Remaining: 90},
			Zone{Name: "narrow", Result: "allowed", Remaining: 3},
		)
		x.Refusal = Refusal{Room: "jwt", Code: "token-expired", Status: 401}
		x.Begin(nil, &Attempt{Upstream: "10.0.0.1:80"})
		x.Begin(nil, &Attempt{Upstream: "10.0.0.2:80"})
		x.Fallback, x.FallbackReason = "respond", "circuit-open"
		x.TraceID = "0af7651916cd43dd8448eb211c80319c"
		x.Cache = Cache{Status: "bypass", Reason: "method"}
	}
	cases := []struct {
		name  string
		fill  func(*Exchange)
		key   string
		want  string
		known bool
	}{
		{"subject", full, "sallyport.subject", "alice", true},
		{"issuer", full, "sallyport.issuer", "main", true},
		{"zone is the tightest", full, "sallyport.zone", "narrow", true},
		{"zone is the one that refused", func(x *Exchange) {
			full(x)
			x.Zones = append(x.Zones, Zone{Name: "burst", Result: "refused", Remaining: 5})
		}, "sallyport.zone", "burst", true},
		{"refusal", full, "sallyport.refusal", "token-expired", true},
		{"upstream is the last tried", full, "sallyport.upstream", "10.0.0.2:80", true},
		{"fallback", full, "sallyport.fallback", "respond", true},
		{"fallback reason", full, "sallyport.fallback_reason", "circuit-open", true},
		{"trace id", full, "sallyport.trace_id", "0af7651916cd43dd8448eb211c80319c", true},
		{"cache status", full, "sallyport.cache.status", "bypass", true},
		{"cache reason", full, "sallyport.cache.reason", "method", true},
		{"route", func(x *Exchange) { x.Route = "api.test/orders/*" }, "sallyport.route", "api.test/orders/*", true},
		{"anonymous", func(*Exchange) {}, "sallyport.subject", "", true},
		{"no zone", func(*Exchange) {}, "sallyport.zone", "", true},
		{"no upstream", func(*Exchange) {}, "sallyport.upstream", "", true},
		{"unknown", full, "sallyport.colour", "", false},
		{"not ours", full, "http.colour", "", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, repl := request(t)
			c.fill(Of(r))
			got, known := repl.GetString(c.key)
			if got != c.want || known != c.known {
				t.Errorf("{%s} is %q (known %t), want %q (known %t)", c.key, got, known, c.want, c.known)
			}
		})
	}
}

func TestOneCardPerRequest(t *testing.T) {
	r, _ := request(t)
	other, _ := request(t)
	card := Of(r)
	if card.Began.IsZero() {
		t.Error("the card does not say when the request began")
	}
	if Of(r) != card || Of(r.WithContext(r.Context())) != card {
		t.Error("a second look makes a second card")
	}
	if In(r.Context()) != card || In(other.Context()) != nil {
		t.Error("the card is not found by the request's context")
	}
	if Of(other) == card {
		t.Error("two requests share a card")
	}
	bare := httptest.NewRequest(http.MethodGet, "/", nil)
	if Of(bare) == nil {
		t.Error("a request outside Caddy's server has no card")
	}
}

type watcher struct{ begun []string }

func (w *watcher) Begin(out *http.Request, a *Attempt) {
	w.begun = append(w.begun, a.Upstream)
	out.Header.Set("Traceparent", "told")
}
func (*watcher) End(*Attempt) {}

func TestTheWatcherSeesTheOutboundRequest(t *testing.T) {
	r, _ := request(t)
	x, w := Of(r), new(watcher)
	x.Watch = w
	out := httptest.NewRequest(http.MethodGet, "http://10.0.0.1/", nil)
	x.Begin(out, &Attempt{Upstream: "10.0.0.1:80"})
	if len(x.Attempts) != 1 || len(w.begun) != 1 || out.Header.Get("Traceparent") != "told" {
		t.Errorf("got attempts %v, begun %v, header %q", x.Attempts, w.begun, out.Header.Get("Traceparent"))
	}
}

func TestNotesAreKeptOnceAKey(t *testing.T) {
	x := new(Exchange)
	x.Note("breaker.state", "open")
	x.Note("cache.result", "miss")
	x.Note("breaker.state", "half-open")
	if len(x.Notes) != 2 || x.Notes[0] != (Note{"breaker.state", "half-open"}) || x.Notes[1] != (Note{"cache.result", "miss"}) {
		t.Errorf("the card has %v", x.Notes)
	}
}

type stepper struct {
	watcher
	steps []Step
}

func (s *stepper) Step(st Step) { s.steps = append(s.steps, st) }

func TestStepsReachTheWatcherThatWantsThem(t *testing.T) {
	x := new(Exchange)
	x.Step(Step{Name: "redis take"}) // nobody watches
	x.Watch = new(watcher)
	x.Step(Step{Name: "redis take"}) // a watcher of upstreams only
	s := new(stepper)
	x.Watch = s
	x.Step(Step{Name: "redis take"})
	In(t.Context()).Step(Step{Name: "of no request"})
	if len(s.steps) != 1 {
		t.Errorf("the watcher heard of %v", s.steps)
	}
}

func BenchmarkOf(b *testing.B) {
	r, _ := request(b)
	Of(r)
	b.ReportAllocs()
	for b.Loop() {
		Of(r)
	}
}
