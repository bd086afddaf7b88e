package cache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// gullible is an origin that believes everything a request says and puts it
// into its answer, which may be kept for a minute. It names nothing in Vary.
func (k *kitchen) gullible() {
	k.origin = func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		said := []string{r.Method, r.Host, r.URL.RequestURI()}
		for name, values := range r.Header {
			for _, v := range values {
				said = append(said, name+"="+v)
			}
		}
		body, _ := io.ReadAll(r.Body)
		_, err := io.WriteString(w, strings.Join(append(said, string(body)), "\n"))
		return err
	}
}

// TestPoisoning plays the techniques of the published work on cache poisoning
// (Kettle: Practical Web Cache Poisoning, 2018; Web Cache Entanglement, 2020;
// Gotta cache 'em all, 2024; Nguyen et al.: Your Cache Has Fallen, 2019): an
// attacker asks first, and the victim must not get what that made of the answer.
func TestPoisoning(t *testing.T) {
	const target = "http://a.example/x?id=1"
	attacks := []struct {
		name, config, method, target string
		fields                       []string
		body                         string
		host                         string
	}{
		{name: "X-Forwarded-Host", fields: []string{"X-Forwarded-Host: evil"}},
		{name: "X-Forwarded-Scheme", fields: []string{"X-Forwarded-Scheme: evil"}},
		{name: "X-Forwarded-Proto", fields: []string{"X-Forwarded-Proto: evil"}},
		{name: "X-Forwarded-Port", fields: []string{"X-Forwarded-Port: evil"}},
		{name: "X-Forwarded-Prefix", fields: []string{"X-Forwarded-Prefix: evil"}},
		{name: "X-Host", fields: []string{"X-Host: evil"}},
		{name: "Forwarded host", fields: []string{"Forwarded: for=1.2.3.4;host=evil"}},
		{name: "X-Original-URL", fields: []string{"X-Original-URL: /evil"}},
		{name: "X-Rewrite-URL", fields: []string{"X-Rewrite-URL: /evil"}},
		{name: "method override", fields: []string{"X-HTTP-Method-Override: POST", "X-Evil: evil"}},
		{name: "another override", fields: []string{"X-Method-Override: HEAD", "X-Evil: evil"}},
		{name: "fat GET", body: "id=evil"},
		{name: "port in the host", host: "a.example:1337", fields: []string{"X-Evil: evil"}},
		{name: "capitals in the host", host: "A.example", fields: []string{"X-Evil: evil"}},
		{name: "ignored parameter", config: `{"key":{"ignore_query":["utm_source"]}}`, target: target + "&utm_source=evil"},
		{name: "ignored parameter in disguise", config: `{"key":{"ignore_query":["utm_source"]}}`, target: target + "&utm%5fsource=evil"},
		{name: "parameter cloaking", config: `{"key":{"ignore_query":["utm_source"]}}`, target: target + "&utm_source=a;id=evil"},
		{name: "parameter not listed", config: `{"key":{"query":["id"]}}`, target: target + "&callback=evil"},
		{name: "the same parameter again", config: `{"key":{"sort_query":true}}`, target: target + "&id=evil"},
		{name: "dot segments", target: "http://a.example/evil/../x?id=1"},
		{name: "encoded slash", target: "http://a.example/evil%2f..%2fx?id=1"},
		{name: "encoded letter", target: "http://a.example/%78?id=1&evil"},
		{name: "two slashes", target: "http://a.example//x?id=1&evil"},
		{name: "encoded question mark", target: "http://a.example/x%3Fid=1&evil"},
		{name: "newline in a keyed header", config: `{"key":{"add":["{http.request.header.X-A}","{http.request.header.X-B}"]}}`,
			fields: []string{"X-A: evil \nadd "}},
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			config := a.config
			if config == "" {
				config = "{}"
			}
			timed(t, config, func(t *testing.T, k *kitchen) {
				k.gullible()
				aim := a.target
				if aim == "" {
					aim = target
				}
				w := httptest.NewRecorder()
				r := httptest.NewRequest("GET", aim, strings.NewReader(a.body))
				if a.body == "" {
					r = httptest.NewRequest("GET", aim, nil)
				}
				if a.host != "" {
					r.Host = a.host
				}
				for _, f := range a.fields {
					name, value, _ := strings.Cut(f, ": ")
					r.Header.Add(name, value)
				}
				r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
				if err := k.serve(w, r); err != nil {
					t.Fatal(err)
				}
				victim := k.do("GET", target)
				if strings.Contains(victim.Body.String(), "evil") || victim.Code != 200 {
					t.Errorf("the victim got\n%s", victim.Body)
				}
				if k.do("GET", target).Header().Get("Age") == "" {
					t.Error("the victim's own answer was not kept: the test proves nothing")
				}
			})
		})
	}
}

// TestRewritesCount has one route strip what another does not.
func TestRewritesCount(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		k.gullible()
		for _, path := range []string{"/a/x", "/b/x"} {
			w := httptest.NewRecorder()
			r := request(w, "GET", "http://a.example"+path)
			r.URL.Path = "/x" // as handle_path does
			if err := k.serve(w, r); err != nil {
				t.Fatal(err)
			}
		}
		k.expect(2, "two routes lead to /x")
		w := httptest.NewRecorder()
		r := request(w, "GET", "http://a.example/a/x")
		r.URL.Path = "/mobile/x" // as a rewrite by User-Agent does
		if err := k.serve(w, r); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(w.Body.String(), "/mobile/x") {
			t.Errorf("the rewritten request got the other's answer:\n%s", w.Body)
		}
	})
}

// TestDeception plays the techniques of the published work on cache deception
// (Gil 2017; Mirheidari et al. 2020, 2022): a victim is led to a URL that looks
// like a file, whose answer is personal, and the attacker asks for it after.
func TestDeception(t *testing.T) {
	paths := []string{
		"/account/x.css", "/account;x.js", "/account%2fx.png", "/account%00x.gif", "/account%0a.css", "/account%23x.jpg",
		"/account%3fx.ico", "/static/..%2faccount", "/account/..%2fx.css", "/account.css", "/account/.woff2",
	}
	origins := []struct {
		name   string
		fields []string
	}{
		{"says nothing", nil},
		{"says when it changed", []string{"Last-Modified: " + stamp(0), `Etag: "a"`}},
		{"says private", []string{"Cache-Control: private, max-age=60"}},
		{"says no-store", []string{"Cache-Control: no-store"}},
		{"renews a session", []string{"Cache-Control: max-age=60", "Set-Cookie: session=secret"}},
	}
	for _, o := range origins {
		for _, path := range paths {
			t.Run(o.name+" "+path, func(t *testing.T) {
				timed(t, `{"stale_if_error":3600000000000,"stale_while_revalidate":60000000000}`, func(t *testing.T, k *kitchen) {
					k.answers(200, "secret", append([]string{"Content-Type: text/html"}, o.fields...)...)
					k.do("GET", "http://a.example"+path, "Cookie: session=victim")
					k.answers(401, "who are you?")
					if w := k.do("GET", "http://a.example"+path); strings.Contains(w.Body.String(), "secret") {
						t.Errorf("the attacker got %q", w.Body)
					}
				})
			})
		}
	}
}

// as serves a request of a verified caller, whose token came in a cookie.
func (k *kitchen) as(subject string, fields ...string) *httptest.ResponseRecorder {
	k.t.Helper()
	w := httptest.NewRecorder()
	r := request(w, "GET", "http://a.example/me", fields...)
	exchange.Of(r).Identity = exchange.Identity{Subject: subject, Issuer: "main"}
	if err := k.serve(w, r); err != nil {
		k.t.Fatal(err)
	}
	return w
}

func TestCallersAreKeptApart(t *testing.T) {
	personal := func(k *kitchen) {
		k.origin = func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			_, err := fmt.Fprintf(w, "for %s", exchange.Of(r).Identity.Subject)
			return err
		}
	}
	t.Run("by default nothing of theirs is kept", func(t *testing.T) {
		timed(t, `{}`, func(t *testing.T, k *kitchen) {
			personal(k)
			k.as("alice")
			if w := k.as("bob"); w.Body.String() != "for bob" {
				t.Errorf("bob got %q", w.Body)
			}
			if w := k.do("GET", "http://a.example/me"); w.Body.String() != "for " {
				t.Errorf("nobody got %q", w.Body)
			}
			if w := k.as("bob"); w.Body.String() != "for bob" {
				t.Errorf("bob got what was kept of nobody: %q", w.Body)
			}
		})
	})
	t.Run("with identity each has its own", func(t *testing.T) {
		timed(t, `{"key":{"identity":true}}`, func(t *testing.T, k *kitchen) {
			personal(k)
			for range 2 {
				for _, who := range []string{"alice", "bob", "main alice ", "alice\n"} {
					if w := k.as(who, "Authorization: Bearer x"); w.Body.String() != "for "+who {
						t.Errorf("%q got %q", who, w.Body)
					}
				}
			}
			k.expect(4, "the second round is served from the store")
			if w := k.do("GET", "http://a.example/me", "Authorization: Bearer y"); w.Body.String() != "for " {
				t.Errorf("an unverified caller got %q", w.Body)
			}
		})
	})
}

func TestFieldsOfHandlersInFrontAreNotKept(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		k.answers(200, "x", "Cache-Control: max-age=60", "Vary: X-V", "Link: <a>")
		for i, who := range []string{"alice", "bob"} {
			w := httptest.NewRecorder()
			w.Header().Set("RateLimit", `"z";r=`+fmt.Sprint(i))
			w.Header().Set("X-User", who)
			w.Header().Set("Vary", "Origin")
			if err := k.serve(w, request(w, "GET", "http://a.example/x")); err != nil {
				t.Fatal(err)
			}
			if h := w.Header(); h.Get("RateLimit") != `"z";r=`+fmt.Sprint(i) || h.Get("X-User") != who {
				t.Errorf("%s got the fields %v", who, h)
			}
			if got := strings.Join(w.Header().Values("Vary"), ","); got != "Origin,X-V" {
				t.Errorf("%s got Vary %q", who, got)
			}
		}
		k.expect(1, "the second is served from the store")
		w := httptest.NewRecorder()
		if err := k.serve(w, request(w, "GET", "http://a.example/x")); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"RateLimit", "X-User"} {
			if got := w.Header().Get(name); got != "" {
				t.Errorf("%s of another client was kept: %q", name, got)
			}
		}
	})
}

func TestKeysAndVariantsAreBounded(t *testing.T) {
	timed(t, `{"max_variants":4}`, func(t *testing.T, k *kitchen) {
		k.answers(200, "x", "Cache-Control: max-age=60", "Vary: X-V")
		for i := range 100 {
			k.get(fmt.Sprintf("X-V: %d", i))
		}
		n := 0
		for range k.h.larder.memory.All() {
			n++
		}
		if n != 4 {
			t.Errorf("%d variants are kept, want 4", n)
		}
		k.do("GET", "http://a.example/"+strings.Repeat("x", longest))
		if got := k.do("GET", "http://a.example/"+strings.Repeat("x", longest)).Header().Get("Cache-Status"); !strings.Contains(got, "detail=key") {
			t.Errorf("a key of more than %d bytes: Cache-Status %q", longest, got)
		}
	})
}
