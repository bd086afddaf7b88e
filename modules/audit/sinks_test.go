package audit_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/sallyport-gateway/sallyport/modules/audit/otlp"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

// TestSinkMatrix has one gateway deliver to sinks of both kinds over real
// connections, each with a fault of its own. Every one ends up with all events,
// in order; and two more that get nothing hold up nobody.
func TestSinkMatrix(t *testing.T) {
	var sides []*farSide
	var sinks strings.Builder
	for _, tng := range tongues {
		for _, fl := range faults {
			if fl.only != "" && fl.only != tng.kind {
				continue
			}
			f := open(t, tng, fl)
			sides = append(sides, f)
			sinks.WriteString(f.sink())
		}
	}
	elsewhere := open(t, tongues[0], fault{name: "elsewhere"})
	for _, tng := range tongues {
		astray := open(t, tng, fault{name: "sends elsewhere", misbehave: func(_ *farSide, w http.ResponseWriter, r *http.Request, _ []place) bool {
			http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
			return true
		}})
		sinks.WriteString(astray.sink())
	}
	dead, comeAlive := deadForNow(t)
	sinks.WriteString(dead.sink())
	site := serve(t, sinks.String())

	for i := range 40 {
		get(t, fmt.Sprintf("%s/%d", site, i))
	}
	get(t, site+"/poison")
	for i := range 200 {
		get(t, fmt.Sprintf("%s/more/%d", site, i))
	}
	get(t, site+"/last")

	poison := uint64(0)
	for _, f := range sides {
		arrive(t, f)
		poison = max(poison, f.poison())
	}
	for _, f := range sides {
		f.check(t, poison)
	}
	if s := elsewhere.state(); s.tries > 0 {
		t.Errorf("a redirect was followed %d times", s.tries)
	}
	comeAlive()
	arrive(t, dead)
	dead.check(t, 0)
}

func open(t *testing.T, tng tongue, fl fault) *farSide {
	t.Helper()
	f := &farSide{tongue: tng, fault: fl}
	f.Server = httptest.NewUnstartedServer(f)
	if fl.setup != nil {
		fl.setup(t, f)
	} else {
		f.Start()
	}
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// deadForNow is a sink at whose address nobody listens yet; in the long form it
// stays so for three minutes.
func deadForNow(t *testing.T) (f *farSide, comeAlive func()) {
	t.Helper()
	port, err := stage.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + port
	died := time.Now()
	f = &farSide{tongue: tongues[0], fault: fault{name: "dead for a while"}, Server: &httptest.Server{URL: "http://" + address}}
	return f, func() {
		if os.Getenv("SALLYPORT_DURABILITY") == "full" {
			time.Sleep(time.Until(died.Add(3 * time.Minute)))
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: f}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
	}
}

// arrive waits until the far side has the last event.
func arrive(t *testing.T, f *farSide) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := f.state(); s.last != 0 && len(s.missing) <= 1 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s never got the last event: %+v", f.name(), f.state())
		}
	}
}

// serve runs a gateway that refuses everybody, with these sinks.
func serve(t *testing.T, sinks string) (site string) {
	t.Helper()
	port, err := stage.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + port
	text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `{
	admin off
	auto_https off
	audit {
		node gw-test
		coalesce off
		shutdown_flush 1s
		%s
	}
}
http://%s {
	bind 127.0.0.1
	respond "REFUSER"
}`, sinks, address), nil)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), `{"body":"REFUSER","handler":"static_response"}`, `{"handler":"test_refuser"}`))
	if err := caddy.Load(text, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return "http://" + address
}

func get(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("%s: %s", url, resp.Status)
	}
}
