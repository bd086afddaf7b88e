package jwtauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
)

// tell speaks to the admin API as an operator would.
func tell(t *testing.T, issuer, text string) (int, error) {
	t.Helper()
	mux := http.NewServeMux()
	var failed error
	for _, route := range new(adminAPI).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) { failed = route.Handler.ServeHTTP(w, r) })
	}
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, revocationsPath+"/"+issuer, strings.NewReader(text)))
	return rec.Code, failed
}

func TestRevokedByTheAdminAPI(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := start(t, i, "", "jwt main")
	now := time.Now().Unix()
	one := i.token(t, map[string]any{"jti": "one", "sid": "s1"})
	two := i.token(t, map[string]any{"jti": "two", "sid": "s1"})
	bob := i.token(t, map[string]any{"jti": "three", "sub": "bob", "iat": now - 60})
	bobLater := i.token(t, map[string]any{"jti": "four", "sub": "bob", "iat": now - 10})
	bobUndated := i.token(t, map[string]any{"jti": "five", "sub": "bob", "iat": nil})
	all := map[string]string{"one": one, "two": two, "bob": bob, "bobLater": bobLater, "bobUndated": bobUndated}
	expect := func(refused ...string) {
		t.Helper()
		for name, tok := range all {
			want := 200
			for _, r := range refused {
				if r == name {
					want = 401
				}
			}
			if a := g.get(t, tok); a.status != want {
				t.Errorf("%s: %d, want %d", name, a.status, want)
			}
		}
	}
	expect() // and all of them are remembered
	for _, step := range []struct {
		denial  string
		refused []string
	}{
		{`{"jti":"one"}`, []string{"one"}},
		{`{"sub":"bob","before":` + itoa(now-30) + `}`, []string{"one", "bob", "bobUndated"}},
		{`{"sid":"s1","exp":` + itoa(now+60) + `}`, []string{"one", "two", "bob", "bobUndated"}},
		{`{"sub":"bob"}`, []string{"one", "two", "bob", "bobUndated", "bobLater"}},
	} {
		if code, err := tell(t, "main", step.denial); err != nil || code != http.StatusNoContent {
			t.Fatalf("%s: %d, %v", step.denial, code, err)
		}
		expect(step.refused...)
	}
	for _, bad := range []string{``, `{}`, `{"jti":"a","sub":"b"}`, `{"jti":"a","before":1}`, `{"iss":"a"}`, `{"jti":"a"}{}`, `[]`, `{"sub":"a","before":-1}`} {
		if _, err := tell(t, "main", bad); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	if _, err := tell(t, "other", `{"jti":"a"}`); err == nil {
		t.Error("an issuer that does not exist is accepted")
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestRevocationOutlivesAReload(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := start(t, i, "", "jwt main")
	tok := i.token(t, map[string]any{"jti": "one"})
	if _, err := tell(t, "main", `{"jti":"one"}`); err != nil {
		t.Fatal(err)
	}
	g.load(t, i, "leeway 10s", "jwt main", "127.0.0.1:1")
	waitFor(t, "the new configuration", func() bool { return g.get(t, tok).status == 401 })
}

func TestRevokedByFile(t *testing.T) {
	i := newIDP(t, "EdDSA")
	path := filepath.Join(t.TempDir(), "revoked.ndjson")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"jti":"one"}` + "\n\n")
	g := start(t, i, "revocation {\n file "+path+"\n}", "jwt main")
	one, two := i.token(t, map[string]any{"jti": "one"}), i.token(t, map[string]any{"jti": "two"})
	if a, b := g.get(t, one), g.get(t, two); a.status != 401 || b.status != 200 {
		t.Errorf("%d and %d, want 401 and 200", a.status, b.status)
	}
	write(`{"jti":"two"}`)
	waitFor(t, "the new file to count", func() bool { return g.get(t, two).status == 401 && g.get(t, one).status == 200 })
	write(`nonsense`)
	waitFor(t, "readiness to say so", func() bool { err := readiness(t); return err != nil && isDegraded(err) })
	if a := g.get(t, two); a.status != 401 {
		t.Errorf("with a file that cannot be read: %d, want what it said before", a.status)
	}

	config := adapt(t, "{\nadmin off\nissuer main {\nissuer a\njwks "+i.URL+"\naudience a\nrevocation {\nfile "+path+"\n}\n}\n}")
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a configuration with that file: %v", err)
	}
}

func TestRevokedThroughRedis(t *testing.T) {
	i := newIDP(t, "EdDSA")
	server := redisServer(t)
	g := start(t, i, "revocation {\n redis\n}\n}\nredis redis://"+server.Addr+" {", "jwt main")
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	one, two := i.token(t, map[string]any{"jti": "one"}), i.token(t, map[string]any{"jti": "two"})
	if _, err := tell(t, "main", `{"jti":"one"}`); err != nil {
		t.Fatal(err)
	}
	if a := g.get(t, one); a.status != 401 {
		t.Errorf("revoked here: %d", a.status)
	}
	if n, err := client.ZCard(context.Background(), "sallyport:revoked:{main}").Result(); err != nil || n != 1 {
		t.Errorf("%d in Redis, %v", n, err)
	}
	// As another gateway does it.
	exp := time.Now().Add(time.Hour).Unix()
	client.ZAdd(context.Background(), "sallyport:revoked:{main}", redis.Z{Score: float64(exp), Member: `{"jti":"two","exp":` + itoa(exp) + `}`})
	client.Incr(context.Background(), "sallyport:revoked:{main}:version")
	waitFor(t, "the denial of another gateway", func() bool { return g.get(t, two).status == 401 })
	server.Stop()
	if a := g.get(t, two); a.status != 401 {
		t.Errorf("without Redis: %d, want what was known before", a.status)
	}
}

func TestDenialsLapseAndAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var s denials
	for n := range 10 {
		d := Denial{ID: itoa(int64(n)), Expires: now.Unix() + int64(n)}
		if err := s.add(d, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.add(Denial{ID: "x", Expires: now.Unix() + 60}, now.Add(5*time.Second)); err != nil || s.len() != 5 {
		t.Errorf("%d are held, %v; want those that have not lapsed", s.len(), err)
	}
	full := make([]Denial, maxDenials)
	for n := range full {
		full[n] = Denial{ID: itoa(int64(n)), Expires: now.Unix() + 60}
	}
	s.replace(full, now)
	if err := s.add(Denial{ID: "y", Expires: now.Unix() + 60}, now); err == nil {
		t.Error("one more than the bound is taken")
	}
}
