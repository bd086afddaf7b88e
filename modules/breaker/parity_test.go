package breaker

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
)

// scenario is one thing that reverse_proxy does, told as a transcript of what
// the client got and what the upstream saw. The set follows Caddy's own
// integration tests of reverse_proxy.
type scenario struct {
	name string
	// proxy is the configuration; UP is the upstream's address, DEAD one that
	// refuses connections.
	proxy    string
	upstream http.HandlerFunc
	fresh    func() http.HandlerFunc
	tls, h2c bool
	ask      func(s *stage)
}

// stage is where a scenario plays.
type stage struct {
	t    *testing.T
	g    *gate
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.text, format+"\n", args...)
}

func (s *stage) header(h http.Header) {
	for _, k := range slices.Sorted(maps.Keys(h)) {
		if k != "Date" {
			s.say("  %s: %s", k, strings.Join(h[k], " | "))
		}
	}
}

func (s *stage) request(method, path, body string, header ...string) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.g.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	s.send(req)
}

func (s *stage) send(req *http.Request) {
	res, err := s.g.Client().Transport.RoundTrip(req)
	if err != nil {
		s.say("no answer")
		return
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	s.say("answer %s %q broken=%t", res.Status, text, err != nil)
	s.header(res.Header)
	s.say("trailers")
	s.header(res.Trailer)
}

// saw is an upstream that writes down what it gets and then does as f.
func (s *stage) saw(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			body, _ := io.ReadAll(r.Body)
			s.say("upstream got %s %s %s %q", r.Proto, r.Method, r.URL, body)
			s.header(r.Header)
			s.header(r.Trailer)
		}
		f(w, r)
	}
}

func get(path string, header ...string) func(*stage) {
	return func(s *stage) { s.request(http.MethodGet, path, "", header...) }
}

func post(path, body string) func(*stage) {
	return func(s *stage) { s.request(http.MethodPost, path, body) }
}

var hello http.HandlerFunc = func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Up", "yes")
	_, _ = io.WriteString(w, "hello")
}

// failThen answers 503 to the first request and then as f.
func failThen(f http.HandlerFunc) http.HandlerFunc {
	var once sync.Map
	return func(w http.ResponseWriter, r *http.Request) {
		if _, again := once.LoadOrStore(r.URL.Path, true); !again {
			w.WriteHeader(503)
			return
		}
		f(w, r)
	}
}

var scenarios = []scenario{
	{name: "get", upstream: hello, ask: get("/a?b=c")},
	{name: "post", upstream: hello, ask: post("/", "a body")},
	{name: "head", upstream: hello, ask: func(s *stage) { s.request(http.MethodHead, "/", "") }},
	{name: "no content", upstream: answer(204), ask: get("/")},
	{name: "not modified", upstream: answer(304), ask: get("/")},
	{name: "redirect", upstream: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, ask: get("/")},
	{name: "server error", upstream: answer(500), ask: get("/")},
	{name: "hop-by-hop headers", upstream: hello, ask: get("/", "Connection", "X-Hop, close", "X-Hop", "1", "Te", "trailers", "Keep-Alive", "1")},
	{name: "forwarded headers", upstream: hello, ask: get("/", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "https")},
	{name: "large body", upstream: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<17)) }, ask: get("/")},
	{name: "announced trailers", ask: get("/", "Te", "trailers"), upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	}},
	{name: "unannounced trailers", ask: get("/"), upstream: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set(http.TrailerPrefix+"X-Late", "1")
	}},
	{name: "request trailers", upstream: hello, ask: func(s *stage) {
		req, _ := http.NewRequest(http.MethodPost, s.g.URL, io.NopCloser(strings.NewReader("body")))
		req.Trailer = http.Header{"X-After": {"all"}}
		s.send(req)
	}},
	{name: "early hints", ask: hints, upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "page")
	}},
	{name: "stream", ask: stream, upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	}},
	{name: "upgrade", upstream: echo, ask: func(s *stage) { upgrade(s.t, s.g, nil) }},
	{name: "upgrade refused", upstream: answer(403), ask: get("/", "Connection", "Upgrade", "Upgrade", "echo")},
	{name: "broken body", ask: get("/"), upstream: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		drop(w)
	}},
	{name: "reset", upstream: func(w http.ResponseWriter, _ *http.Request) { drop(w) }, ask: post("/", "body")},
	{name: "dead", proxy: `{"upstreams":[{"dial":"DEAD"}]}`, ask: get("/")},
	{name: "dead, retried", upstream: hello, ask: post("/", "body"),
		proxy: `{"upstreams":[{"dial":"DEAD"},{"dial":"UP"}],"load_balancing":{"selection_policy":{"policy":"round_robin"},"retries":3}}`},
	{name: "response retried", upstream: failThen(hello), fresh: func() http.HandlerFunc { return failThen(hello) }, ask: get("/once"),
		proxy: `{"upstreams":[{"dial":"UP"}],"load_balancing":{"retries":2,"retry_match":[{"expression":"{http.reverse_proxy.status_code} == 503"}]}}`},
	{name: "response retries used up", upstream: answer(503), ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"load_balancing":{"retries":2,"retry_match":[{"expression":"{http.reverse_proxy.status_code} == 503"}]}}`},
	{name: "response would be retried, but retries are off", upstream: answer(503), ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"load_balancing":{"retry_match":[{"expression":"{http.reverse_proxy.status_code} == 503"}]}}`},
	{name: "buffered body replayed", upstream: failThen(hello), fresh: func() http.HandlerFunc { return failThen(hello) }, ask: post("/replay", "body"),
		proxy: `{"upstreams":[{"dial":"UP"}],"request_buffers":1024,"load_balancing":{"retries":2,"retry_match":[{"expression":"{http.reverse_proxy.status_code} == 503"}]}}`},
	{name: "header timeout", upstream: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"transport":{"protocol":"http","response_header_timeout":"20ms"}}`},
	{name: "headers rewritten", upstream: hello, ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"headers":{"request":{"set":{"X-Key":["{http.reverse_proxy.retries}k"]}},"response":{"set":{"X-Down":["1"]},"delete":["X-Up"]}}}`},
	{name: "method and path rewritten", upstream: hello, ask: post("/x", "body"), proxy: `{"upstreams":[{"dial":"UP"}],"rewrite":{"method":"GET","uri":"/auth"}}`},
	{name: "response buffered", upstream: hello, ask: get("/"), proxy: `{"upstreams":[{"dial":"UP"}],"response_buffers":1024}`},
	{name: "replace status", upstream: answer(404), ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"handle_response":[{"match":{"status_code":[404]},"status_code":"410"}]}`},
	{name: "handle_response", upstream: answer(404), ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"handle_response":[{"match":{"status_code":[404]},"routes":[{"handle":[{"handler":"static_response","body":"gone: {http.reverse_proxy.status_code}","status_code":"410"}]}]}]}`},
	{name: "copy_response", upstream: hello, ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"handle_response":[{"routes":[{"handle":[{"handler":"copy_response_headers"},{"handler":"copy_response","status_code":"202"}]}]}]}`},
	{name: "X-Accel", ask: get("/"), upstream: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Accel-Redirect", "/file") },
		proxy: `{"upstreams":[{"dial":"UP"}],"handle_response":[{"match":{"headers":{"X-Accel-Redirect":["*"]}},"routes":[{"handle":[{"handler":"static_response","body":"{http.reverse_proxy.header.X-Accel-Redirect}"}]}]}]}`},
	{name: "error in handle_response", upstream: hello, ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"load_balancing":{"retries":3},"handle_response":[{"routes":[{"handle":[{"handler":"error","status_code":"502","error":"mine"}]}]}]}`},
	{name: "full upstream", ask: get("/"), proxy: `{"upstreams":[]}`},
	{name: "https upstream", tls: true, upstream: hello, ask: get("/"),
		proxy: `{"upstreams":[{"dial":"UP"}],"transport":{"protocol":"http","tls":{"insecure_skip_verify":true}}}`},
	{name: "h2c upstream", h2c: true, upstream: hello, ask: post("/", "body"),
		proxy: `{"upstreams":[{"dial":"UP"}],"transport":{"protocol":"http","versions":["h2c"]}}`},
}

func hints(s *stage) {
	req, _ := http.NewRequest(http.MethodGet, s.g.URL, nil)
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		s.say("informational %d %v", code, h)
		return nil
	}}
	s.send(req.WithContext(httptrace.WithClientTrace(s.t.Context(), trace)))
}

func stream(s *stage) {
	res, err := s.g.Client().Get(s.g.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		s.say("line %q", lines.Text())
	}
}

// play runs one scenario through one handler and returns its transcript.
func (sc scenario) play(t *testing.T, handler func(config string) caddyhttp.MiddlewareHandler) string {
	s := &stage{t: t}
	up := httptest.NewUnstartedServer(nil)
	if sc.upstream != nil {
		up.Config.Handler = s.saw(sc.upstream)
	}
	switch {
	case sc.tls:
		up.StartTLS()
	default:
		if sc.h2c {
			up.Config.Protocols = new(http.Protocols)
			up.Config.Protocols.SetUnencryptedHTTP2(true)
		}
		up.Start()
	}
	t.Cleanup(up.Close)
	config := sc.proxy
	if config == "" {
		config = `{"upstreams":[{"dial":"UP"}]}`
	}
	config = strings.NewReplacer("UP", up.Listener.Addr().String(), "DEAD", deadAddr(t)).Replace(config)
	s.g = front(t, handler(config))
	sc.ask(s)
	<-s.g.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	text := strings.ReplaceAll(s.text.String(), up.Listener.Addr().String(), "UP")
	text = strings.ReplaceAll(text, s.g.Listener.Addr().String(), "GATE")
	return ports.ReplaceAllString(text, "127.0.0.1:PORT")
}

var ports = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func TestSameAnswersAsReverseProxy(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			want := sc.play(t, func(c string) caddyhttp.MiddlewareHandler { return stock(t, c) })
			if sc.fresh != nil {
				sc.upstream = sc.fresh() // what the upstream remembers is for one run
			}
			got := sc.play(t, func(c string) caddyhttp.MiddlewareHandler {
				var proxy json.RawMessage = []byte(c)
				return build(t, fmt.Sprintf(`{"policy":{"name":"%%s"},"proxy":%s}`, proxy))
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("reverse_proxy and breaker_proxy differ (-reverse_proxy +breaker_proxy):\n%s", diff)
			}
			if want == "" && sc.name != "upgrade" {
				t.Error("the transcript is empty")
			}
		})
	}
}
