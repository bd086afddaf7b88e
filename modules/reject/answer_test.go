package reject_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

var update = flag.Bool("update", false, "rewrite the golden answers")

const globals = "{\n\tauto_https off\n\tservers {\n\t\tprotocols h1 h2 h2c\n\t}\n}\n"

// ask sends one request and returns the answer as the golden files hold it.
func ask(t *testing.T, method, url, host string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	if header != nil {
		r.Header = header
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read body: %v", method, url, err)
	}
	return res, string(body)
}

func render(res *http.Response, body string) string {
	var b strings.Builder
	fmt.Fprintln(&b, res.StatusCode)
	for _, name := range []string{"Content-Type", "Content-Length", "Cache-Control", "Content-Encoding", "Etag", "Retry-After", "Www-Authenticate"} {
		if v, ok := res.Header[name]; ok {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(v, ", "))
		}
	}
	return b.String() + "\n" + body + "\n"
}

func TestGoldenAnswers(t *testing.T) {
	addr := gateway.Addr(t)
	names := []string{"expired", "limited", "foreign", "bare", "hung-up", "stale-headers", "early-hints"}
	var sites strings.Builder
	for _, how := range names {
		fmt.Fprintf(&sites, "\thandle /%s {\n\t\trefuse %s\n\t}\n", how, how)
	}
	for _, site := range []struct{ name, caddyfile string }{
		{"with problem", "\tproblem\n" + sites.String()},
		{"bare site", sites.String()},
	} {
		t.Run(site.name, func(t *testing.T) {
			gateway.Run(t, globals+"http://"+addr+" {\n"+site.caddyfile+"}\n")
			for _, how := range names {
				if site.name == "bare site" && (how == "foreign" || how == "bare" || how == "hung-up") {
					continue // not ours to answer: without `problem` Caddy sends the bare status
				}
				t.Run(how, func(t *testing.T) {
					res, body := ask(t, http.MethodGet, "http://"+addr+"/"+how, "", nil)
					golden(t, how, render(res, body))
					if !json.Valid([]byte(body)) {
						t.Errorf("body is not JSON: %s", body)
					}
				})
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "answers", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestHeadHasNoBody(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\tproblem\n\trefuse expired\n}\n")
	get, body := ask(t, http.MethodGet, "http://"+addr, "", nil)
	head, none := ask(t, http.MethodHead, "http://"+addr, "", nil)
	if none != "" || head.StatusCode != 401 {
		t.Errorf("HEAD got status %d and body %q, want 401 and none", head.StatusCode, none)
	}
	if head.ContentLength != int64(len(body)) || get.ContentLength != int64(len(body)) {
		t.Errorf("HEAD promises %d bytes, GET %d, the body has %d", head.ContentLength, get.ContentLength, len(body))
	}
}

// An answer that has begun is not answered again.
func TestBegunAnswerIsLeftAlone(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\tproblem\n\thandle /write {\n\t\trefuse after-write\n\t}\n\thandle /flush {\n\t\trefuse after-flush\n\t}\n}\n")
	for path, want := range map[string]string{"/write": "first half", "/flush": ""} {
		res, body := ask(t, http.MethodGet, "http://"+addr+path, "", nil)
		if res.StatusCode != 200 || body != want {
			t.Errorf("%s: got status %d and body %q, want 200 and %q", path, res.StatusCode, body, want)
		}
	}
}

func TestHandleErrors(t *testing.T) {
	addr := gateway.Addr(t)
	_, port, _ := strings.Cut(addr, ":")
	site := func(host, body string) string {
		return fmt.Sprintf("http://%s:%s {\n\tbind 127.0.0.1\n%s}\n", host, port, body)
	}
	const pages = "\thandle_errors {\n\t\trespond \"page {err.status_code} {http.error.message}\"\n\t}\n"
	const only404 = "\thandle_errors 404 {\n\t\trespond \"gone\"\n\t}\n"
	const atAPI = "\thandle_errors {\n\t\t@api path /api/*\n\t\trespond @api \"api page\"\n\t}\n"
	gateway.Run(t, globals+
		site("both.test", "\tproblem\n\trefuse expired\n"+pages)+
		site("pages.test", "\trefuse expired\n"+pages)+
		site("only404.test", "\tproblem\n\trefuse expired\n"+only404)+
		site("neither.test", "\trefuse expired\n")+
		site("problem.test", "\tproblem\n\trefuse expired\n")+
		site("stripped.test", "\tproblem\n\thandle_path /api/* {\n\t\trefuse expired\n\t}\n"+atAPI)+
		site("inside.test", "\trefuse foreign\n\thandle_errors {\n\t\tproblem\n\t}\n"))

	const page, problem = "page 401 jwt: token-expired: exp is 12s ago", `"code":"token-expired"`
	for _, c := range []struct{ host, path, want string }{
		{"both.test", "/", page},
		{"pages.test", "/", page},
		{"only404.test", "/", problem},
		{"neither.test", "/", problem},
		{"problem.test", "/", problem},
		{"stripped.test", "/api/x", "api page"},
		{"inside.test", "/", `"title":"Bad Gateway"`},
	} {
		res, body := ask(t, http.MethodGet, "http://"+addr+c.path, c.host, nil)
		wantStatus := 401
		if c.host == "inside.test" {
			wantStatus = 502
		}
		if res.StatusCode != wantStatus || !strings.Contains(body, c.want) {
			t.Errorf("%s%s: got %d %q, want %d and %q", c.host, c.path, res.StatusCode, body, wantStatus, c.want)
		}
		if challenge := res.Header.Get("Www-Authenticate"); wantStatus == 401 && challenge == "" {
			t.Errorf("%s: the challenge is lost", c.host)
		}
	}
}
