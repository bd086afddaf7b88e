package routeindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func init() {
	caddy.RegisterModule(new(probe))
	caddy.RegisterModule(new(asked))
}

// record is what happened to one request.
type record struct {
	steps []string
	ctx   context.Context
}

type recordKey struct{}

func note(r *http.Request, what string) {
	rec := r.Context().Value(recordKey{}).(*record)
	if rec.ctx == nil {
		rec.ctx = r.Context()
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	satisfied := slices.Sorted(maps.Keys(r.Context().Value(groups).(map[string]struct{})))
	rec.steps = append(rec.steps, fmt.Sprintf("%s %s %s %v error=%v %s", what, r.Host, r.URL.Path, satisfied,
		r.Context().Value(caddyhttp.ErrorCtxKey),
		repl.ReplaceAll("{http.regexp.p.1} {http.regexp.h.1} {http.error.message} {http.vars.v}", "-")))
}

// probe is a handler that notes that it was called and then does as told.
type probe struct {
	Name string `json:"name"`
	Does string `json:"does"`
	To   string `json:"to,omitempty"`
}

func (*probe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.probe", New: func() caddy.Module { return new(probe) }}
}

func (p *probe) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	note(r, p.Name+" "+p.Does)
	switch p.Does {
	case "stop":
		w.Header().Add("Probe", p.Name)
		w.WriteHeader(http.StatusAccepted)
		_, err := w.Write([]byte(p.Name))
		return err
	case "fail":
		return errors.New(p.Name)
	case "refuse":
		return caddyhttp.HandlerError{StatusCode: http.StatusForbidden, ID: p.Name, Err: errors.New(p.Name)}
	case "twice":
		if err := next.ServeHTTP(w, r); err != nil {
			note(r, p.Name+" heard "+err.Error())
		}
		return next.ServeHTTP(w, r)
	case "path":
		r.URL.Path, r.URL.RawPath = p.To, ""
	case "host":
		r.Host = p.To
	case "swallow":
		if err := next.ServeHTTP(w, r); err != nil {
			note(r, p.Name+" heard "+err.Error())
		}
		return nil
	case "mark":
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.ErrorCtxKey, errors.New(p.Name)))
	case "set":
		caddyhttp.SetVar(r.Context(), "v", p.To)
	}
	return next.ServeHTTP(w, r)
}

// asked is a matcher that notes that it was asked.
type asked struct {
	Name string `json:"name"`
	Says string `json:"says"`
}

func (*asked) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.asked", New: func() caddy.Module { return new(asked) }}
}

func (a *asked) MatchWithError(r *http.Request) (bool, error) {
	note(r, a.Name+" says "+a.Says)
	switch a.Says {
	case "error":
		return false, caddyhttp.HandlerError{StatusCode: http.StatusTooEarly, ID: a.Name, Err: errors.New(a.Name)}
	case "elsewhere":
		r.URL.Path, r.Host = "/a/b", "example.com"
		return false, nil
	}
	return a.Says == "yes", nil
}

// servers loads the same routes on two servers, the second of which has the
// index, and sorts matchers, whose order Caddy leaves to chance.
func servers(t testing.TB, routes, failures string) (stock, indexed *caddyhttp.Server) {
	t.Helper()
	const server = `{"automatic_https": {"disable": true}, "listener_wrappers": [%s], "errors": {"routes": %s}, "routes": %s}`
	load(t, fmt.Sprintf(`{"http": {"servers": {"stock": `+server+`, "indexed": `+server+`}}}`,
		"", failures, routes, `{"wrapper": "route_index"}`, failures, routes))
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	all := app.(*caddyhttp.App).Servers
	for _, s := range all {
		sortMatchers(s.Routes)
		sortMatchers(s.Errors.Routes)
	}
	return all["stock"], all["indexed"]
}

// load loads apps in place of those before, and unloads them when the test ends.
func load(t testing.TB, apps string) {
	t.Helper()
	config := fmt.Sprintf(`{"admin": {"disabled": true, "config": {"persist": false}}, "logging": {"logs": {"default": {"level": "PANIC"}}}, "apps": %s}`, apps)
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatalf("load: %v\n%s", err, config)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

func sortMatchers(routes caddyhttp.RouteList) {
	rank := func(m any) string {
		switch m := m.(type) {
		case *caddyhttp.MatchPath:
			return "0"
		case *caddyhttp.MatchHost:
			return "1"
		case *asked:
			return "2" + m.Name
		}
		return fmt.Sprintf("3%T", m)
	}
	for _, rt := range routes {
		for _, set := range rt.MatcherSets {
			slices.SortFunc(set, func(a, b any) int { return strings.Compare(rank(a), rank(b)) })
		}
		for _, h := range rt.Handlers {
			if sub, ok := h.(*caddyhttp.Subroute); ok {
				sortMatchers(sub.Routes)
				if sub.Errors != nil {
					sortMatchers(sub.Errors.Routes)
				}
			}
		}
	}
}

// request is what a client asks; unlike a URL it may have any path.
type request struct {
	method, host, path, raw, query, field string
}

// ask returns all that can be known of what a server does with q.
func ask(s *caddyhttp.Server, q request) []string {
	rec := new(record)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Method, r.Host, r.URL = q.method, q.host, &url.URL{Path: q.path, RawPath: q.raw, RawQuery: q.query}
	r.RequestURI = r.URL.RequestURI()
	if q.field != "" {
		r.Header.Set("X-Field", q.field)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
	res := w.Result()
	head, _ := json.Marshal(res.Header)
	steps := append(rec.steps, fmt.Sprintf("%d %s %s", res.StatusCode, head, w.Body))
	if rec.ctx != nil {
		steps = append(steps, fmt.Sprint("unhandled: ", caddyhttp.GetVar(rec.ctx, "unhandled")))
	}
	return steps
}
