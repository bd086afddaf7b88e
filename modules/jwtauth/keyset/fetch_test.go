package keyset

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

func reason(err error) string {
	var f *FetchError
	if errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

func TestFetchFaults(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed to another origin")
	}))
	defer elsewhere.Close()
	release := make(chan struct{})
	defer close(release)

	for _, c := range []struct {
		name, reason string
		answer       http.HandlerFunc
	}{
		{"500", "status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }},
		{"204", "status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
		{"redirect to another origin", "redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		}},
		{"redirect for ever", "redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}},
		{"too large", "size", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 50<<20)) }},
		{"too large once unpacked", "size", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 50<<20))
			_ = z.Close()
		}},
		{"hung", "timeout", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}},
		{"cut off", "dial", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if c.reason == "timeout" {
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			}
			defer cancel()
			_, err := (&HTTP{URL: server.URL + "/jwks"}).Fetch(ctx, "", "")
			if reason(err) != c.reason {
				t.Errorf("got %q (%v), want %q", reason(err), err, c.reason)
			}
		})
	}
}

func TestFetchIsConditional(t *testing.T) {
	body := first()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/old":
			http.Redirect(w, r, "/jwks", http.StatusMovedPermanently)
			return
		case r.Header.Get("Cookie") != "":
			t.Error("a cookie was sent")
		}
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Cache-Control", "public, max-age=300")
		w.Header().Set("Set-Cookie", "a=b")
		http.ServeContent(w, r, "jwks.json", time.Unix(1e9, 0), bytes.NewReader(body))
	}))
	defer server.Close()
	h := &HTTP{URL: server.URL + "/old"}
	d, err := h.Fetch(t.Context(), "", "")
	if err != nil || !bytes.Equal(d.Body, body) || d.Tag != `"v1"` || d.TTL != 5*time.Minute {
		t.Fatalf("got %q, %s, %s, %v", d.Body, d.Tag, d.TTL, err)
	}
	if d, err = h.Fetch(t.Context(), d.Tag, d.Modified); err != nil || !d.Same {
		t.Errorf("the second fetch brought %+v, %v", d, err)
	}
}

func TestFreshness(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                                       0,
		"max-age=60":                             time.Minute,
		"public,  Max-Age=\"60\" ":               time.Minute,
		"max-age=60, no-cache":                   1,
		"no-store":                               1,
		"max-age=0":                              1,
		"max-age=-5":                             0,
		"max-age=99999999999999999999":           0,
		"max-age=31536000":                       365 * 24 * time.Hour,
		"stale-while-revalidate=60, max-age=120": 2 * time.Minute,
	} {
		if got := freshness(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
	if got := freshness(http.Header{"Cache-Control": {"max-age=60"}, "Age": {"20"}}); got != 40*time.Second {
		t.Errorf("with Age 20: %s", got)
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		name, url, to string
		private       bool
		allowed       bool
	}{
		{"public", "https://idp.example.com/", "93.184.216.34:443", false, true},
		{"name that leads to a private network", "https://idp.example.com/", "10.0.0.1:443", false, false},
		{"the same, allowed", "https://idp.example.com/", "10.0.0.1:443", true, true},
		{"private address as written", "https://10.0.0.1/", "10.0.0.1:443", false, true},
		{"another than written", "https://10.0.0.1/", "10.0.0.2:443", false, false},
		{"name that leads to loopback", "https://idp.example.com/", "127.0.0.1:443", false, false},
		{"name that leads to loopback, IPv6", "https://idp.example.com/", "[::1]:443", false, false},
		{"loopback as written", "http://127.0.0.1:8080/", "127.0.0.1:8080", false, true},
		{"localhost", "http://localhost:8080/", "[::1]:8080", false, true},
		{"localhost that leads away", "http://localhost:8080/", "10.0.0.1:8080", false, false},
		{"mapped", "https://idp.example.com/", "[::ffff:10.0.0.1]:443", false, false},
		{"NAT64", "https://idp.example.com/", "[64:ff9b::a00:1]:443", false, false},
		{"carrier NAT", "https://idp.example.com/", "100.64.0.1:443", false, false},
		{"unique local", "https://idp.example.com/", "[fd12::1]:443", false, false},
		{"cloud metadata", "https://idp.example.com/", "169.254.169.254:80", true, false},
		{"cloud metadata as written", "https://169.254.169.254/", "169.254.169.254:80", true, false},
		{"cloud metadata, IPv6", "https://idp.example.com/", "[fd00:ec2::254]:80", true, false},
		{"link-local with zone", "https://idp.example.com/", "[fe80::1%eth0]:80", true, false},
		{"unspecified", "https://idp.example.com/", "0.0.0.0:443", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := (&HTTP{URL: c.url, Private: c.private}).control("tcp", c.to, nil)
			if (err == nil) != c.allowed {
				t.Errorf("%s connecting to %s: %v, allowed %t", c.url, c.to, err, c.allowed)
			}
		})
	}
}

func TestCheckURL(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://idp.example.com/jwks":     true,
		"http://127.0.0.1:9000/jwks":       true,
		"http://[::1]:9000/jwks":           true,
		"http://localhost/jwks":            true,
		"http://idp.example.com/jwks":      false,
		"http://127.0.0.1.evil.example/":   false,
		"https://user:pw@idp.example.com/": false,
		"file:///etc/passwd":               false,
		"https:///jwks":                    false,
		"idp.example.com":                  false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckURL(u, false); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		} else if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("the message tells the password: %v", err)
		}
	}
}

func TestDiscovery(t *testing.T) {
	body := first()
	var issuer, keys string
	path := "/.well-known/openid-configuration"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case path:
			_, _ = w.Write([]byte(`{"issuer":"` + issuer + `","jwks_uri":"` + keys + `"}`))
		case "/keys":
			_, _ = w.Write(body)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for _, c := range []struct{ name, wanted, path, issuer, keys, reason string }{
		{"OpenID Connect", server.URL, "/.well-known/openid-configuration", server.URL, server.URL + "/keys", ""},
		{"OpenID Connect with a path", server.URL + "/realms/a/", "/realms/a/.well-known/openid-configuration", server.URL + "/realms/a/", server.URL + "/keys", ""},
		{"RFC 8414", server.URL + "/a", "/.well-known/oauth-authorization-server/a", server.URL + "/a", server.URL + "/keys", ""},
		{"another issuer", server.URL, "/.well-known/openid-configuration", server.URL + "/", server.URL + "/keys", "discovery"},
		{"keys over plain http elsewhere", server.URL, "/.well-known/openid-configuration", server.URL, "http://keys.example.com/", "discovery"},
		{"keys from a file", server.URL, "/.well-known/openid-configuration", server.URL, "file:///etc/passwd", "discovery"},
		{"no metadata", server.URL, "/nowhere", server.URL, server.URL + "/keys", "status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, issuer, keys = c.path, c.issuer, c.keys
			d, err := (&Discovery{Issuer: c.wanted}).Fetch(t.Context(), "", "")
			if reason(err) != c.reason {
				t.Fatalf("got %q (%v), want %q", reason(err), err, c.reason)
			}
			if c.reason == "" && !bytes.Equal(d.Body, body) {
				t.Errorf("body %q", d.Body)
			}
		})
	}
}

func TestFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(body []byte) {
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := &File{path}
	if _, err := f.Fetch(t.Context(), "", ""); reason(err) != "read" {
		t.Errorf("missing file: %v", err)
	}
	write(first())
	d, err := f.Fetch(t.Context(), "", "")
	if err != nil || d.Same {
		t.Fatal(err)
	}
	if again, err := f.Fetch(t.Context(), d.Tag, ""); err != nil || !again.Same {
		t.Errorf("unchanged file: %+v, %v", again, err)
	}
	k := generate(t, "EdDSA", "third")
	write(mint.JWKS(k))
	if again, err := f.Fetch(t.Context(), d.Tag, ""); err != nil || again.Same {
		t.Errorf("changed file: %+v, %v", again, err)
	}
}
