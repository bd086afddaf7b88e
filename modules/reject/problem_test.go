package reject

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// reflected is the document as encoding/json writes it.
func reflected(t *testing.T, ref *Refusal, trace string) string {
	t.Helper()
	all := make(map[string]any)
	for _, m := range ref.Members {
		all[m.Name] = m.Value
	}
	all["title"], all["status"], all["type"] = ref.Title, ref.Status, TypeBase+ref.Code
	if ref.Type != "" {
		all["type"] = ref.Type
	}
	for name, text := range map[string]string{"code": ref.Code, "detail": ref.Hint, "trace_id": trace} {
		if text != "" {
			all[name] = text
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAProblemIsWhatEncodingJSONWrites(t *testing.T) {
	for _, c := range []struct {
		name  string
		ref   Refusal
		trace string
	}{
		{"least", Refusal{Status: 500, Type: "about:blank"}, ""},
		{"usual", Refusal{Status: 401, Code: "token-expired", Title: "The token has expired", Hint: "Get a new one."}, "0af7651916cd43dd8448eb211c80319c"},
		{"members between ours", Refusal{Status: 429, Code: "c", Title: "t", Members: []Member{
			{"zz", []string{"a", "b<"}}, {"\xff", 1}, {"a", "first"}, {"required_scope", "orders:read"}, {"sum", map[string]int{"n": 1}}, {"none", []string{}},
		}}, ""},
		{"strings that need escapes", Refusal{Status: 400, Code: "q\"&", Title: "é\n\u2028\x7f", Hint: `\<>`, Members: []Member{{"ü", "\x00"}}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(c.ref.appendProblem(nil, c.trace))
			if want := reflected(t, &c.ref, c.trace); got != want {
				t.Errorf("got\n%s, want\n%s", got, want)
			}
		})
	}
	ref := Refusal{Status: 429, Title: "t", Members: []Member{{"status", 200}, {"wild", func() {}}}}
	if got, want := string(ref.appendProblem(nil, "")), `{"status":429,"title":"t","type":"`+TypeBase+`","wild":null}`; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func FuzzProblem(f *testing.F) {
	f.Add("token-expired", "Expired", "Get <one>", "name", "value", "")
	f.Add("", "\xff", "\u2029\\", "zz", "\"", "0af7651916cd43dd8448eb211c80319c")
	f.Fuzz(func(t *testing.T, code, title, hint, name, value, trace string) {
		switch name {
		case "code", "detail", "status", "title", "trace_id", "type":
			t.Skip() // ours win; the table above shows it
		}
		ref := &Refusal{Status: 403, Code: code, Title: title, Hint: hint, Members: []Member{{name, value}}}
		if got, want := string(ref.appendProblem(nil, trace)), reflected(t, ref, trace); got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
	})
}

// knowing is a writer of somebody else who knows whether an answer has begun.
type knowing struct {
	*httptest.ResponseRecorder
	begun bool
}

func (k *knowing) Begun() bool { return k.begun }

func TestProblemTrustsAWriterThatKnows(t *testing.T) {
	for _, begun := range []bool{false, true} {
		w := &knowing{ResponseRecorder: httptest.NewRecorder()}
		r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", nil), caddy.NewReplacer(), w, new(caddyhttp.Server))
		broken := errors.New("broken")
		next := caddyhttp.HandlerFunc(func(got http.ResponseWriter, _ *http.Request) error {
			if got != http.ResponseWriter(w) {
				t.Error("a writer that knows is wrapped")
			}
			w.begun = begun
			return broken
		})
		err := (&Problem{logger: zap.NewNop()}).ServeHTTP(w, r, next)
		if begun && (err != broken || w.Body.Len() > 0) || !begun && (err != nil || w.Code != http.StatusInternalServerError) {
			t.Errorf("begun %t: error %v, status %d, body %s", begun, err, w.Code, w.Body)
		}
	}
}

// discarding is a writer that keeps nothing.
type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header       { return d.header }
func (*discarding) WriteHeader(int)             {}
func (*discarding) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkProblem(b *testing.B) {
	w := &discarding{make(http.Header)}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept", "*/*")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	p := &Problem{logger: zap.NewNop()}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return Refuse(w, r, &Refusal{Room: "jwt", Status: 401, Code: "token-missing", Title: "An access token is required",
			Hint: "Send an access token in the Authorization header, after the word Bearer.", Challenges: []string{`Bearer realm="api"`}})
	})
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if p.ServeHTTP(w, r, next) != nil {
			b.Fatal("the refusal is not answered")
		}
	}
}
