package jwtauth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
	"github.com/sallyport-gateway/sallyport/test/port"
)

const testAudience = "orders-api"

// idp is a token issuer with switchable behaviour.
type idp struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []*mint.Key
	answer  http.HandlerFunc // nil serves the keys
	header  string           // Cache-Control of the keys
	fetches int
}

func newIDP(t testing.TB, algs ...string) *idp {
	t.Helper()
	i := new(idp)
	for n, alg := range algs {
		i.keys = append(i.keys, newKey(t, alg, fmt.Sprintf("k%d", n+1)))
	}
	i.Server = httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	return i
}

func newKey(t testing.TB, alg, kid string) *mint.Key {
	t.Helper()
	k, err := mint.Generate(alg, kid)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (i *idp) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.fetches++
	answer, keys, header := i.answer, i.keys, i.header
	i.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	if header != "" {
		w.Header().Set("Cache-Control", header)
	}
	_, _ = w.Write(mint.JWKS(keys...)) // the gateway left
}

func (i *idp) behave(answer http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func (i *idp) rotate(keys ...*mint.Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

func (i *idp) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *idp) claims(more ...map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": i.URL, "aud": testAudience, "sub": "ada", "scope": "orders:read", "iat": now, "exp": now + 600}
	for _, m := range more {
		maps.Copy(c, m)
	}
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// token signs claims with the first key.
func (i *idp) token(t testing.TB, more ...map[string]any) string {
	t.Helper()
	return signed(t, i.keys[0], nil, i.claims(more...))
}

func signed(t testing.TB, k *mint.Key, header, claims map[string]any) string {
	t.Helper()
	raw, err := k.Sign(header, claims)
	if err != nil {
		t.Fatal(err)
	}
	suite.remember(t, raw)
	return raw
}

// gateway is Caddy with a configuration of this test: in this process, or as a
// daemon the built binary.
type gateway struct {
	*daemon
	url string
	// upstream is what the last request looked like behind the gateway.
	mu   sync.Mutex
	seen *http.Request
	hits int
	// sockets are the WebSockets that a test has open.
	sockets []net.Conn
}

// start loads a Caddyfile in which ISSUER stands for the issuer's options,
// JWT for the directive, and UPSTREAM for the proxy.
func start(t testing.TB, i *idp, issuerOptions, jwt string) *gateway {
	t.Helper()
	g := new(gateway)
	g.load(t, i, issuerOptions, jwt, g.upstream(t))
	return g
}

func (g *gateway) load(t testing.TB, i *idp, issuerOptions, jwt, upstream string) {
	t.Helper()
	if g.url == "" {
		g.url = "http://" + freeAddress(t)
	}
	if !hasKeys.MatchString(issuerOptions) {
		issuerOptions = "jwks " + i.URL + "\n" + issuerOptions
	}
	config := adapt(t, fmt.Sprintf(`{
		admin off
		persist_config off
		storage file_system %s
		grace_period 1s
		%s
		issuer main {
			issuer %s
			audience %s
			%s
		}
	}
	%s {
		log
		%s
		reverse_proxy %s
	}`, t.TempDir(), suite.logging("file "+suite.file("here")), i.URL, testAudience, issuerOptions, g.url, jwt, upstream))
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// hasKeys says whether options say where the keys are.
var hasKeys = regexp.MustCompile(`^(jwks|secret|key) `)

func adapt(t testing.TB, text string) []byte {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": filepath.Base(t.Name())})
	if err != nil {
		t.Fatalf("adapt: %v\n%s", err, text)
	}
	return config
}

func freeAddress(t testing.TB) string {
	t.Helper()
	return port.Addr(t)
}

// answerTo is what came back.
type answerTo struct {
	status int
	header http.Header
	body   string
	code   string
}

// get sends a request with a bearer token, and further headers in pairs.
func (g *gateway) get(t testing.TB, bearer string, headers ...string) answerTo {
	t.Helper()
	return g.getAt(t, "/orders", bearer, headers...)
}

func (g *gateway) getAt(t testing.TB, path, bearer string, headers ...string) answerTo {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header["Authorization"] = []string{"Bearer " + bearer}
	}
	for n := 0; n < len(headers); n += 2 {
		req.Header[headers[n]] = append(req.Header[headers[n]], headers[n+1])
	}
	return g.do(t, req)
}

func (g *gateway) do(t testing.TB, req *http.Request) answerTo {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answerTo{status: resp.StatusCode, header: resp.Header, body: string(body)}
	var problem struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &problem) == nil {
		a.code = problem.Code
	}
	return a
}

// upstreamSaw returns the last request that reached the upstream.
func (g *gateway) upstreamSaw(t testing.TB) *http.Request {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen == nil {
		t.Fatal("nothing reached the upstream")
	}
	return g.seen
}

func (g *gateway) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hits
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second) // clean-ups wait too
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}
