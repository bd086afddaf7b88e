// Package tongues asks the built gateway for every room's refusal in every
// protocol that a client may speak, and holds each answer against the rules
// of that protocol.
package tongues

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"

	// Go takes a passed test for passed until what it imports changes: these
	// change whenever the gateway does.
	_ "github.com/sallyport-gateway/sallyport/modules/standard"
)

// room is one refusal and the route that gives it.
type room struct {
	name, route string
	header      http.Header
	status      int
	code        string // of the refusal; empty: an error that no guard made
	grpc        int
	retry       bool // it says when to try again
	// warm is how many requests come before.
	warm int
	// gets says that the route only refuses GET and HEAD.
	gets bool
}

func rooms(token string) []room {
	alice := http.Header{"Authorization": {"Bearer " + token}}
	return []room{
		{name: "jwt", route: "jwt main", status: 401, code: "token-missing", grpc: 16},
		{name: "jwt scope", route: "jwt main {\n\t\t\trequire scope orders:write\n\t\t}", header: alice, status: 403, code: "scope-insufficient", grpc: 7},
		{name: "jwt keys", route: "jwt dead", header: alice, status: 503, code: "keys-unavailable", grpc: 14, retry: true},
		{name: "rate_limit", route: "rate_limit {\n\t\t\tzone %[1]s {\n\t\t\t\tkey all\n\t\t\t\trate 1/1h\n\t\t\t\tburst 1\n\t\t\t}\n\t\t}",
			status: 429, code: "quota-exceeded", grpc: 8, retry: true, warm: 1},
		{name: "breaker", route: "breaker_proxy 127.0.0.1:1 {\n\t\t\tbreaker %[1]s {\n\t\t\t\tconsecutive 1\n\t\t\t\topen 1h 1h\n\t\t\t}\n\t\t}",
			status: 503, code: "circuit-open", grpc: 14, retry: true, warm: 2},
		{name: "upstream", route: "breaker_proxy 127.0.0.1:1 {\n\t\t\tbreaker %[1]s {\n\t\t\t\tconsecutive 1000000\n\t\t\t\tmin_requests 1000000\n\t\t\t}\n\t\t}",
			status: 502, grpc: 14},
		{name: "admin_api", route: "admin_api", header: http.Header{"Sec-Fetch-Mode": {"cors"}}, status: 403, code: "admin-browser", grpc: 7},
		{name: "cache", route: "cache", header: http.Header{"Cache-Control": {"only-if-cached"}}, status: 504, code: "not-cached", grpc: 4, gets: true},
	}
}

// site is a way to configure answers to errors.
type site struct {
	name, first, last string
	// pages says that documents are answered by the operator's own routes.
	pages bool
	// bare says that Caddy answers errors that no guard made.
	bare bool
}

var sites = []site{
	{name: "problem", first: "\tproblem\n"},
	{name: "bare", bare: true},
	{name: "pages", first: "\tproblem\n", last: "\thandle_errors {\n\t\trespond \"page\"\n\t}\n", pages: true},
	{name: "pages alone", last: "\thandle_errors {\n\t\trespond \"page\"\n\t}\n", pages: true, bare: true},
}

const globals = `{
	auto_https off
	servers {
		protocols h1 h2c
	}
	log default {
		core audit
	}
	issuer main {
		issuer %[1]s
		jwks %[1]sjwks.json
		audience orders-api
	}
	issuer dead {
		issuer %[1]s
		jwks http://127.0.0.1:1/jwks.json
		audience orders-api
	}
	audit {
		sink http %[2]s
	}
}
`

// stand starts a gateway with every site and room, and returns the sites'
// addresses by name.
func stand(t *testing.T, all []room, issuer *stage.Issuer) map[string]string {
	t.Helper()
	sink, err := stage.Serve("sink", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Halt() }) //nolint:errcheck // the end of the test
	binary, err := stage.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var config strings.Builder
	fmt.Fprintf(&config, globals, issuer.URL(), "http://"+sink.Addr+"/events")
	addrs := make(map[string]string)
	for i, s := range sites {
		port, err := stage.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		addrs[s.name] = "http://127.0.0.1:" + port
		fmt.Fprintf(&config, "\nhttp://:%s {\n\tbind 127.0.0.1\n%s", port, s.first)
		for j, r := range all {
			route := r.route
			if strings.Contains(route, "%[1]s") {
				route = fmt.Sprintf(route, fmt.Sprintf("z%d_%d", i, j))
			}
			if !strings.HasPrefix(route, "breaker_proxy") { // which respond would come before
				route += "\n\t\trespond \"in\""
			}
			fmt.Fprintf(&config, "\thandle /%d/* {\n\t\t%s\n\t}\n", j, route)
		}
		config.WriteString(s.last + "}\n")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	admin, err := stage.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p, err := stage.Gateway{
		Binary: binary, Dir: dir, Config: file, Log: filepath.Join(dir, "log"),
		Env: []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "CADDY_ADMIN=127.0.0.1:" + admin},
	}.Run()
	if err != nil {
		t.Fatalf("%v\n%s", err, config.String())
	}
	t.Cleanup(func() { p.Crash() }) //nolint:errcheck // it may have ended
	return addrs
}

// Every room is heard in every tongue, whatever the site does with errors.
func TestEveryRoomInEveryTongue(t *testing.T) {
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Halt() }) //nolint:errcheck // the end of the test
	token, err := issuer.Mint(stage.Token{Alg: "ES256", Claims: issuer.Claims("alice", "orders-api", time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	all := rooms(token)
	addrs := stand(t, all, issuer)
	heard := 0
	for _, s := range sites {
		for i, r := range all {
			base := fmt.Sprintf("%s/%d/", addrs[s.name], i)
			for range r.warm {
				if _, err := send(tongue{method: http.MethodPost}, base, r.header); err != nil {
					t.Fatal(err)
				}
			}
			for _, to := range tongues {
				if r.gets && (to.method == http.MethodPost || to.name == "WebSocket") || r.code == "" && s.bare || s.pages && to.document {
					continue // a cache has nothing to say of a POST or an upgrade; Caddy's own answer; the operator's own answer
				}
				heard++
				a, err := send(to, base, r.header)
				if err == nil {
					err = to.holds(a, r)
				}
				if err != nil {
					t.Errorf("%s on the site with %s, in %s: %v\n%s", r.name, s.name, to.name, err, a)
				}
			}
		}
	}
	t.Logf("%d answers of %d rooms in %d tongues on %d sites", heard, len(all), len(tongues), len(sites))
}

// heard is an answer with all of its body.
type heard struct {
	*http.Response
	body []byte
}

func (h heard) String() string {
	if h.Response == nil {
		return "no answer"
	}
	return fmt.Sprintf("%s %v\n%s", h.Status, h.Header, h.body)
}

var (
	cleartext = &http.Transport{DisableCompression: true}
	h2c       = func() *http.Transport {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		return &http.Transport{Protocols: protocols}
	}()
)

func send(to tongue, base string, header http.Header) (heard, error) {
	var body io.Reader
	if to.method == http.MethodPost {
		body = strings.NewReader("")
	}
	r, err := http.NewRequest(to.method, base+"orders.v1.Orders/Get"+to.query, body)
	if err != nil {
		return heard{}, err
	}
	for _, h := range []http.Header{header, to.header} {
		for name, values := range h {
			r.Header[name] = values
		}
	}
	transport := cleartext
	if to.h2c {
		transport = h2c
	}
	client := &http.Client{Transport: transport, Timeout: stage.Patience}
	res, err := client.Do(r)
	if err != nil {
		return heard{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return heard{res, text}, err
}

// An upgrade that is refused leaves the connection as it was, in HTTP/1.1.
func TestRefusedUpgradeKeepsTheConnection(t *testing.T) {
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Halt() }) //nolint:errcheck // the end of the test
	addrs := stand(t, rooms("")[:1], issuer)
	conn, err := net.Dial("tcp", strings.TrimPrefix(addrs["problem"], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(stage.Patience)) //nolint:errcheck // a dead connection fails below
	for range 2 {
		fmt.Fprint(conn, "GET /0/chat HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		var got bytes.Buffer
		for !bytes.HasSuffix(got.Bytes(), []byte("}")) {
			chunk := make([]byte, 4096)
			n, err := conn.Read(chunk)
			if err != nil {
				t.Fatalf("%v after %s", err, got.Bytes())
			}
			got.Write(chunk[:n])
		}
		if !strings.HasPrefix(got.String(), "HTTP/1.1 401 ") || strings.Contains(got.String(), "Upgrade:") {
			t.Errorf("got %s", got.String())
		}
	}
}

func object(body []byte) (map[string]any, error) {
	var o map[string]any
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return o, nil
}

var errNoBody = errors.New("there is a body")
