package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

type stepper struct{ steps []exchange.Step }

func (*stepper) Begin(*http.Request, *exchange.Attempt) {}
func (*stepper) End(*exchange.Attempt)                  {}
func (s *stepper) Step(st exchange.Step)                { s.steps = append(s.steps, st) }

// A fetch of keys is a step of the request that waits for it, and of no other.
func TestAFetchThatIsWaitedForIsAStep(t *testing.T) {
	i := newIDP(t, "EdDSA")
	start(t, i, "", "jwt main")
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_issuers")
	if err != nil {
		t.Fatal(err)
	}
	issuer := app.(*Issuers).Issuers["main"]
	<-issuer.source.First()
	verify := func(raw string) []exchange.Step {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
		s := new(stepper)
		exchange.Of(r).Watch = s
		tok, err := token.Parse(raw, 8192)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := issuer.verify(r.Context(), tok, time.Now()); err != nil {
			t.Error(err)
		}
		return s.steps
	}
	if steps := verify(i.token(t)); len(steps) != 0 {
		t.Errorf("a token under a known key took %v", steps)
	}
	aged(t, time.Minute)
	next := newKey(t, "EdDSA", "k2")
	i.rotate(next)
	raw := signed(t, next, nil, i.claims())
	if steps := verify(raw); len(steps) != 1 || steps[0].Name != "fetch keys" || steps[0].Took <= 0 || steps[0].Err != nil {
		t.Errorf("a token under a new key took %v, want one fetch", steps)
	}
	if steps := verify(raw); len(steps) != 0 {
		t.Errorf("the next token under the new key took %v", steps)
	}
}
