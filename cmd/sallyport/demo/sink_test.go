package demo

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

func TestSinkKeepsEachEvent(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(`[{"id": "1"}]`)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, token, encoding, body string
		status                      int
		want                        string
	}{
		{"batch", "secret", "", "[{\n\"id\": \"1\"}, {\"id\":\"2\"}]", 204, "{\"id\":\"1\"}\n{\"id\":\"2\"}\n"},
		{"one event", "secret", "", `{"id":"1"}`, 204, "{\"id\":\"1\"}\n"},
		{"lines", "secret", "", "{\"id\":\"1\"}\n{\"id\":\"2\"}\n", 204, "{\"id\":\"1\"}\n{\"id\":\"2\"}\n"},
		{"packed", "secret", "gzip", packed.String(), 204, "{\"id\":\"1\"}\n"},
		{"packed badly", "secret", "gzip", "{}", 400, ""},
		{"broken", "secret", "", `[{"id":"1"}`, 400, ""},
		{"wrong token", "other", "", `{"id":"1"}`, 401, ""},
		{"no token", "", "", `{"id":"1"}`, 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			r := httptest.NewRequest("POST", "/", strings.NewReader(c.body))
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			r.Header.Set("Content-Encoding", c.encoding)
			w := httptest.NewRecorder()
			NewSink("secret", io.Discard, &out).ServeHTTP(w, r)
			if w.Code != c.status || out.String() != c.want {
				t.Errorf("%s: status %d, kept %q; want %d, %q", c.body, w.Code, out.String(), c.status, c.want)
			}
		})
	}
}

func TestSinkSaysInALineWhatHappened(t *testing.T) {
	const limit = `{"type":"sallyport.limit.refused","time":"2026-05-04T03:02:01Z","data":{"status_code":"quota-exceeded",
		"actor":{"user":{"uid":"bob"}},"http_request":{"http_method":"GET","url":{"path":"/orders"}},"http_response":{"code":429}}}`
	const circuit = `{"type":"sallyport.circuit.changed","time":"2026-05-04T03:02:02Z","data":{"status_code":"open","unmapped":{"details":{"upstream":"127.0.0.1:9201"}}}}`
	var out bytes.Buffer
	s := NewSink("secret", &out, io.Discard)
	if err := s.write([]json.RawMessage{[]byte(limit), []byte(limit), []byte(circuit), []byte(limit), []byte(`{"id":"1"}`)}); err != nil {
		t.Fatal(err)
	}
	at := func(second int) string {
		return time.Date(2026, 5, 4, 3, 2, second, 0, time.UTC).Local().Format(time.TimeOnly)
	}
	want := "audit " + at(1) + " limit.refused    GET /orders 429 quota-exceeded bob (2 times)\n" +
		"audit " + at(2) + " circuit.changed  open 127.0.0.1:9201\n" +
		"audit " + at(1) + " limit.refused    GET /orders 429 quota-exceeded bob\n"
	if got := out.String(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "{\"id\":\"1\"}\n") {
		t.Errorf("printed\n%s\nwant\n%s and the unknown event whole", got, want)
	}
}

func TestIssuerGivesTokensThatItsKeysVerify(t *testing.T) {
	i, err := NewIssuer("http://127.0.0.1:9100")
	if err != nil {
		t.Fatal(err)
	}
	get := func(target string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		i.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		return w
	}
	keys, err := jwk.Parse(get("/jwks.json").Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.TrimSpace(get("/token?sub=alice&scope=orders:read+orders:list&ttl=1m").Body.Bytes())
	token, err := jwt.Parse(text, jwt.WithKeySet(keys), jwt.WithIssuer(i.URL), jwt.WithAudience(audience), jwt.WithSubject("alice"))
	if err != nil {
		t.Fatalf("token %s: %v", text, err)
	}
	if scope, _ := token.Get("scope"); scope != "orders:read orders:list" || time.Until(token.Expiration()) > time.Minute {
		claims, _ := json.Marshal(token)
		t.Errorf("claims %s, want both scopes and a minute to live", claims)
	}
	for _, target := range []string{"/token", "/token?sub=alice&ttl=soon"} {
		if w := get(target); w.Code != 400 {
			t.Errorf("GET %s: %d %s, want 400", target, w.Code, w.Body)
		}
	}
	if w := get("/"); w.Code != 404 {
		t.Errorf("GET /: %d, want 404", w.Code)
	}
}
