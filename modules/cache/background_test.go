package cache

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

const aWhile = `{"stale_while_revalidate":60000000000}`

func TestAStaleAnswerIsRenewedInTheBackground(t *testing.T) {
	timed(t, aWhile, func(t *testing.T, k *kitchen) {
		k.answers(200, "old", "Cache-Control: max-age=10")
		k.get()
		time.Sleep(11 * time.Second)
		release := make(chan struct{})
		k.origin = func(w http.ResponseWriter, r *http.Request) error {
			<-release
			w.Header().Set("Cache-Control", "max-age=10")
			_, err := io.WriteString(w, "new")
			return err
		}
		for range 20 {
			if w := k.get(); w.Body.String() != "old" || !strings.Contains(w.Header().Get("Cache-Status"), "hit; ttl=-1") {
				t.Errorf("while it is renewed the answer is %q (%s)", w.Body, w.Header().Get("Cache-Status"))
			}
		}
		synctest.Wait()
		k.expect(2, "twenty requests have it renewed once")
		close(release)
		synctest.Wait()
		if w := k.get(); w.Body.String() != "new" {
			t.Errorf("after that it is %q", w.Body)
		}
	})
}

// TestABackgroundRequestIsFaithful: it says what its client's request said, and
// shares nothing with it.
func TestABackgroundRequestIsFaithful(t *testing.T) {
	timed(t, aWhile, func(t *testing.T, k *kitchen) {
		ask := func() *http.Request {
			w := httptest.NewRecorder()
			r := request(w, "GET", "http://a.example/orig", "X-Tenant: t1", "Range: bytes=0-1")
			r.URL.Path = "/rewritten"
			caddyhttp.SetVar(r.Context(), "route", "r1")
			exchange.Of(r).Identity = exchange.Identity{Subject: "alice"}
			if err := k.serve(w, r); err != nil {
				t.Fatal(err)
			}
			return r
		}
		type told struct{ path, tenant, user, route, original, subject string }
		tell := func(r *http.Request) told {
			repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
			return told{r.URL.Path, repl.ReplaceAll("{http.request.header.X-Tenant}", ""), repl.ReplaceAll("{http.auth.user.id}", ""),
				repl.ReplaceAll("{http.vars.route}", ""), repl.ReplaceAll("{http.request.orig_uri.path}", ""), repl.ReplaceAll("{sallyport.subject}", "")}
		}
		var background told
		var seen *http.Request
		k.origin = func(w http.ResponseWriter, r *http.Request) error {
			if seen = r; k.asked() > 1 {
				background = tell(r)
			}
			w.Header().Set("Cache-Control", "public, max-age=10")
			_, err := io.WriteString(w, "x")
			return err
		}
		ask()
		time.Sleep(11 * time.Second)
		client := ask()
		synctest.Wait()
		want := told{"/rewritten", "t1", "alice", "r1", "/orig", "alice"}
		if background != want {
			t.Errorf("the upstream was told %+v, want %+v", background, want)
		}
		if seen.Context().Value(caddy.ReplacerCtxKey) == client.Context().Value(caddy.ReplacerCtxKey) || exchange.Of(seen) == exchange.Of(client) {
			t.Error("the request in the background shares its replacer or card with a client's")
		}
		if seen.Header.Get("Range") != "" {
			t.Error("the background asks for a part")
		}
	})
}

func TestAnUnfaithfulBackgroundRequestIsThrownAway(t *testing.T) {
	timed(t, aWhile, func(t *testing.T, k *kitchen) {
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			r := request(w, "GET", "http://a.example/x")
			r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.regexp.tenant.1", "t1")
			if err := k.serve(w, r); err != nil {
				t.Fatal(err)
			}
			return w
		}
		k.origin = func(w http.ResponseWriter, r *http.Request) error {
			tenant := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).ReplaceAll("{http.regexp.tenant.1}", "nobody")
			w.Header().Set("Cache-Control", "max-age=10")
			_, err := io.WriteString(w, "for "+tenant)
			return err
		}
		ask()
		for i := range 3 {
			time.Sleep(11 * time.Second)
			ask()
			synctest.Wait()
			if w := ask(); w.Body.String() != "for t1" {
				t.Errorf("round %d: got %q", i, w.Body)
			}
		}
		if !k.h.unfaithful.Load() {
			t.Error("the handler has not learnt to revalidate in the foreground")
		}
	})
}

func TestABackgroundFailureKeepsTheOldAnswer(t *testing.T) {
	timed(t, aWhile, func(t *testing.T, k *kitchen) {
		k.answers(200, "old", "Cache-Control: max-age=10")
		k.get()
		for _, origin := range []func(http.ResponseWriter, *http.Request) error{
			func(http.ResponseWriter, *http.Request) error {
				return caddyhttp.Error(502, errors.New("refused"))
			},
			func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) },
			func(http.ResponseWriter, *http.Request) error { panic("a handler's mistake") },
			func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(503); return nil },
		} {
			time.Sleep(11 * time.Second)
			k.origin = origin
			for range 2 {
				if w := k.get(); w.Body.String() != "old" {
					t.Errorf("got %q", w.Body)
				}
				synctest.Wait()
			}
		}
	})
}

func TestStopEndsTheBackground(t *testing.T) {
	timed(t, aWhile, func(t *testing.T, k *kitchen) {
		k.answers(200, "old", "Cache-Control: max-age=10")
		k.get()
		time.Sleep(11 * time.Second)
		k.origin = func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return caddyhttp.Error(499, r.Context().Err())
		}
		k.get()
		synctest.Wait()
		if err := k.app.Stop(); err != nil { // or this would hang
			t.Fatal(err)
		}
		if w := k.get(); w.Body.String() != "old" {
			t.Errorf("after Stop the answer is %q", w.Body)
		}
	})
}

func TestStaleIfError(t *testing.T) {
	failures := map[string]func(http.ResponseWriter, *http.Request) error{
		"an error": func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, errors.New("refused")) },
		"a 500":    func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(500); return nil },
		"a 503 with a body": func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(503)
			_, err := io.WriteString(w, "sorry")
			return err
		},
		"the fallback of a handler behind": func(w http.ResponseWriter, r *http.Request) error {
			stale := exchange.Of(r).Stale
			if stale == nil {
				return errors.New("there is no stale answer on the card")
			}
			if age := stale.Age(); age != 11*time.Second {
				return errors.New("its age is " + age.String())
			}
			return stale.Serve(w, r)
		},
	}
	for name, origin := range failures {
		t.Run(name, func(t *testing.T) {
			timed(t, `{"stale_if_error":60000000000}`, func(t *testing.T, k *kitchen) {
				k.answers(200, "old", "Cache-Control: max-age=10")
				k.get()
				time.Sleep(11 * time.Second)
				k.origin = origin
				w := httptest.NewRecorder()
				r := request(w, "GET", "http://a.example/x")
				if err := k.serve(w, r); err != nil {
					t.Fatal(err)
				}
				if w.Code != 200 || w.Body.String() != "old" || w.Header().Get("Age") != "11" {
					t.Errorf("got %d %q Age %s", w.Code, w.Body, w.Header().Get("Age"))
				}
				if c := exchange.Of(r).Cache; c.Status != "stale" {
					t.Errorf("the card says %+v", c)
				}
				k.get()
				k.expect(3, "a stale answer that stood in is not fresh again")
				time.Sleep(60 * time.Second)
				if err := k.serve(w, request(w, "GET", "http://a.example/x")); err == nil && w.Code == 200 && k.asked() != 4 {
					t.Error("the stale answer is used beyond its time")
				}
			})
		})
	}
}

func TestAClientsErrorIsNoReasonForAStaleAnswer(t *testing.T) {
	timed(t, `{"stale_if_error":60000000000}`, func(t *testing.T, k *kitchen) {
		k.answers(200, "old", "Cache-Control: max-age=10")
		k.get()
		time.Sleep(11 * time.Second)
		k.answers(403, "no")
		if w := k.get(); w.Code != 403 {
			t.Errorf("got %d %q, want the 403", w.Code, w.Body)
		}
	})
}
