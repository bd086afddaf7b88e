package audit

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	_ "github.com/sallyport-gateway/sallyport/modules/handover"
	"github.com/sallyport-gateway/sallyport/modules/reject"
	"github.com/sallyport-gateway/sallyport/test/port"
)

func init() { caddy.RegisterModule(refuser{}) }

// refuser is the smallest guard: a caller without a name is refused.
type refuser struct{}

func (refuser) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_refuser", New: func() caddy.Module { return new(refuser) }}
}

func (refuser) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	name := r.Header.Get("X-Name")
	if name == "" {
		return reject.Refuse(w, r, &reject.Refusal{Room: "jwt", Kind: exchange.AuthRefused, Status: 401, Code: "token-missing", Title: "no token"})
	}
	exchange.Of(r).Identity = exchange.Identity{Subject: name, Issuer: "main"}
	return next.ServeHTTP(w, r)
}

// far is the far side of an HTTP sink: it keeps what it accepts.
type far struct {
	*httptest.Server
	mu     sync.Mutex
	events []cloudEvent
	more   chan struct{}
	// answer decides on a batch; zero accepts it. Called with mu held.
	answer func(r *http.Request, batch []cloudEvent) int
	after  string // Retry-After
}

type cloudEvent struct {
	Seq, Epoch, Node, ID, Type, Time, Source, Specversion, Traceparent string
	Data                                                               struct {
		ClassUID    int    `json:"class_uid"`
		TypeUID     int    `json:"type_uid"`
		StatusID    int    `json:"status_id"`
		StatusCode  string `json:"status_code"`
		Count       int
		User        struct{ UID string }
		Actor       struct{ User struct{ UID string } }
		HTTPRequest struct {
			HTTPMethod string `json:"http_method"`
			URL        struct {
				Path  string
				Query string `json:"query_string"`
			}
		} `json:"http_request"`
		HTTPResponse struct{ Code, Length int } `json:"http_response"`
		Unmapped     struct {
			Room, Of, Reason string
			Aborted          bool
			Dropped          map[string]int
		}
	}
}

func newFar(t *testing.T) *far {
	f := &far{more: make(chan struct{}, 1)}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *far) serve(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		body = z
	}
	text, err := io.ReadAll(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var batch []cloudEvent
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents+json") {
		batch = make([]cloudEvent, 1)
		err = json.Unmarshal(text, &batch[0])
	} else {
		err = json.Unmarshal(text, &batch)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answer != nil {
		if code := f.answer(r, batch); code != 0 {
			if f.after != "" {
				w.Header().Set("Retry-After", f.after)
			}
			w.WriteHeader(code)
			return
		}
	}
	f.events = append(f.events, batch...)
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// await returns the events once ok likes them.
func (f *far) await(t *testing.T, what string, ok func([]cloudEvent) bool) []cloudEvent {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		f.mu.Lock()
		list := append([]cloudEvent(nil), f.events...)
		f.mu.Unlock()
		if ok(list) {
			return list
		}
		select {
		case <-f.more:
		case <-deadline:
			t.Fatalf("waited for %s; the sink has %d events: %+v", what, len(list), list)
		}
	}
}

func noteBearer(to *string) func(*http.Request, []cloudEvent) int {
	return func(r *http.Request, _ []cloudEvent) int {
		*to = r.Header.Get("Authorization")
		return 0
	}
}

func ofType(list []cloudEvent, kind string) (found []cloudEvent) {
	for _, e := range list {
		if e.Type == "sallyport."+kind {
			found = append(found, e)
		}
	}
	return found
}

// run loads a Caddyfile; $addr in it is a free address, which run returns.
func run(t *testing.T, caddyfile string) (addr string) {
	t.Helper()
	addr = freeAddr(t)
	load(t, strings.NewReplacer("$addr", addr, "$admin", freeAddr(t)).Replace(caddyfile))
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return addr
}

func load(t *testing.T, caddyfile string) {
	t.Helper()
	if err := tryLoad(caddyfile); err != nil {
		t.Fatal(err)
	}
}

func tryLoad(caddyfile string) error {
	text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		return err
	}
	// The guard of the tests has no directive: it takes the place of a marker.
	text = []byte(strings.ReplaceAll(string(text), `{"body":"REFUSER","handler":"static_response"}`, `{"handler":"test_refuser"}`))
	return caddy.Load(text, true)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return port.Addr(t)
}

func ask(t *testing.T, url, name string) int {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		req.Header.Set("X-Name", name)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func caddyfileWith(sinks string) string {
	return fmt.Sprintf(`{
	admin off
	auto_https off
	# Caddy's own listeners lose requests to a reload.
	servers {
		listener_wrappers {
			handover
		}
	}
	audit {
		node gw-test
		%s
	}
}
http://$addr {
	bind 127.0.0.1
	route /recorded/* {
		audit
		respond "REFUSER"
		respond "hello"
	}
	route {
		respond "REFUSER"
		respond "hello"
	}
}`, sinks)
}

func TestOneEventPerRequest(t *testing.T) {
	sink := newFar(t)
	addr := run(t, caddyfileWith("sink http "+sink.URL))
	base := "http://" + addr
	if got := ask(t, base+"/recorded/a?page=2", "ann"); got != 200 {
		t.Fatalf("named caller: %d", got)
	}
	if got := ask(t, base+"/recorded/b", ""); got != 401 {
		t.Fatalf("nameless caller on a recorded route: %d", got)
	}
	if got := ask(t, base+"/plain", ""); got != 401 {
		t.Fatalf("nameless caller: %d", got)
	}
	if got := ask(t, base+"/plain", "ann"); got != 200 {
		t.Fatalf("named caller on a plain route: %d", got)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	list := sink.await(t, "the gateway's end", func(l []cloudEvent) bool { return len(ofType(l, "gateway.stopped")) == 1 })

	for i, e := range list {
		if e.Seq != fmt.Sprint(i+1) || e.Epoch != list[0].Epoch || e.Node != "gw-test" || e.Specversion != "1.0" {
			t.Errorf("event %d stands at node %s epoch %s seq %s, specversion %s", i, e.Node, e.Epoch, e.Seq, e.Specversion)
		}
	}
	if n := len(ofType(list, "gateway.started")); n != 1 {
		t.Errorf("%d gateway.started events", n)
	}
	asked := ofType(list, "http.request")
	if len(asked) != 1 {
		t.Fatalf("%d http.request events, want the one of /recorded/a: %+v", len(asked), asked)
	}
	if d := asked[0].Data; d.Actor.User.UID != "ann" || d.HTTPResponse.Code != 200 || d.HTTPResponse.Length != len("hello") || d.TypeUID != 400203 || d.StatusID != 1 {
		t.Errorf("http.request says %+v", d)
	}
	refused := ofType(list, "auth.refused")
	if len(refused) != 2 {
		t.Fatalf("%d auth.refused events, want one each for /recorded/b and /plain: %+v", len(refused), refused)
	}
	for i, path := range []string{"/recorded/b", "/plain"} {
		d := refused[i].Data
		if d.HTTPRequest.URL.Path != path || d.StatusCode != "token-missing" || d.Unmapped.Room != "jwt" || d.HTTPResponse.Code != 401 || d.TypeUID != 300201 {
			t.Errorf("auth.refused %d says %+v, want path %s", i, d, path)
		}
	}
}
