package jwtauth

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// TestAttacksOverHTTP sends every token of the attack table to a running
// gateway. Each is answered 401 without reaching the upstream, says nothing of
// why, and is counted under its reason.
func TestAttacksOverHTTP(t *testing.T) {
	i := newIDP(t, "RS256", "ES256")
	listener := newIDP(t, "RS256") // what jku and x5u point at
	g := launch(t, i, "", "jwt main {\n forward sub X-User-Id\n}")
	rsa, other := i.keys[0], newKey(t, "RS256", "k1")
	good := i.token(t)
	parts := strings.Split(good, ".")
	enc := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	raw := func(header, claims string) string {
		tok, err := rsa.SignRaw([]byte(header), []byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		suite.remember(t, tok)
		return tok
	}
	with := func(header map[string]any) string { return signed(t, rsa, header, i.claims()) }
	claim := func(name string, v any) string { return i.token(t, map[string]any{name: v}) }
	pub, err := rsa.PEM()
	if err != nil {
		t.Fatal(err)
	}
	hs, err := mint.New(pub, "HS256", "k1")
	if err != nil {
		t.Fatal(err)
	}
	head := `{"alg":"RS256","kid":"k1"}`
	body := fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":%d`, i.URL, testAudience, int64(4e9))

	reasons := make(map[string]float64)
	for _, c := range []struct{ name, token, reason string }{
		{"01 alg none", enc(`{"alg":"none"}`) + "." + parts[1] + ".", "segments"},
		{"01 alg NoNe", enc(`{"alg":"NoNe","kid":"k1"}`) + "." + parts[1] + "." + parts[2], "alg"},
		{"01 empty signature", parts[0] + "." + parts[1] + ".", "segments"},
		{"02 HMAC with the public key", signed(t, hs, nil, i.claims()), "alg"},
		{"03 crit unknown", with(map[string]any{"crit": []string{"x"}, "x": 1}), "crit"},
		{"03 crit empty", with(map[string]any{"crit": []string{}}), "crit"},
		{"03 crit lists alg", with(map[string]any{"crit": []string{"alg"}}), "crit"},
		{"04 b64 false", with(map[string]any{"b64": false}), "crit"},
		{"05 jwk", signed(t, other, map[string]any{"jwk": other.JWK()}, i.claims()), "header-key"},
		{"05 jku", with(map[string]any{"jku": listener.URL}), "header-key"},
		{"05 x5u", with(map[string]any{"x5u": listener.URL}), "header-key"},
		{"05 x5c of the key that signed", signed(t, other, map[string]any{"x5c": []string{"MIIB"}}, i.claims()), "signature"},
		{"06 duplicate alg", raw(`{"alg":"none","alg":"RS256","kid":"k1"}`, body+"}"), "duplicate"},
		{"07 duplicate sub", raw(head, body+`,"sub":"a","sub":"b"}`), "duplicate"},
		{"07 duplicate exp", raw(head, body+`,"exp":1}`), "duplicate"},
		{"08 EXP beside a past exp", i.token(t, map[string]any{"EXP": 4e9, "exp": 1e9}), "expired"},
		{"09 no exp", claim("exp", nil), "no-exp"},
		{"10 exp string", claim("exp", "4000000000"), "claim-type"},
		{"10 exp null", raw(head, `{"exp":null}`), "claim-type"},
		{"11 exp negative", claim("exp", -1), "claim-type"},
		{"11 exp 1e300", raw(head, `{"exp":1e300}`), "claim-type"},
		{"11 exp 2^63-1", raw(head, `{"exp":9223372036854775807}`), "claim-type"},
		{"13 iat in the future", claim("iat", 4e9), "iat"},
		{"14 aud missing", claim("aud", nil), "audience"},
		{"14 aud mixed", claim("aud", []any{testAudience, 1}), "claim-type"},
		{"15 JSON flattened", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `"}`, "json-form"},
		{"16 tab after", good + "\t.", "charset"},
		{"17 trailing bits", good[:len(good)-1] + flip(good[len(good)-1]), "base64"},
		{"18 padding", good + "=", "charset"},
		{"18 standard alphabet", parts[0] + "." + parts[1] + ".+/" + parts[2][2:], "charset"},
		{"20 four segments", good + ".AAAA", "segments"},
		{"22 two objects", raw(head, body+"}{}"), "json"},
		{"23 invalid UTF-8", raw(head, body+",\"x\":\"\xff\"}"), "json"},
		{"23 NUL in a forwarded claim", raw(head, body+`,"sub":"a\u0000b"}`), "forward"},
		{"23 line break in a forwarded claim", raw(head, body+`,"sub":"a\r\nX-Admin: 1"}`), "forward"},
		{"24 depth", raw(head, body+`,"x":`+strings.Repeat("[", 3000)+strings.Repeat("]", 3000)+"}"), "limits"},
		{"25 logout+jwt", with(map[string]any{"typ": "logout+jwt"}), "typ"},
		{"25 dpop+jwt", with(map[string]any{"typ": "dpop+jwt"}), "typ"},
		{"26 nested", with(map[string]any{"cty": "JWT"}), "nested"},
		{"27 JWE", "a.b.c.d.e", "encrypted"},
		{"iss of another", claim("iss", i.URL+"/"), "issuer"},
		{"kid path traversal", with(map[string]any{"kid": "../../../etc/passwd"}), "key"},
		{"kid of 300 bytes", with(map[string]any{"kid": strings.Repeat("k", 300)}), "kid"},
		{"key of another kind", with(map[string]any{"kid": "k2"}), "alg"},
		{"another key under the same kid", signed(t, other, nil, i.claims()), "signature"},
		{"no kid, key of a stranger", signed(t, other, map[string]any{"kid": nil}, i.claims()), "signature"},
		{"not a token", "hello", "segments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reasons[c.reason]++
			a := g.get(t, c.token)
			if a.status != 401 || g.count() != 0 {
				t.Fatalf("status %d, %d requests at the upstream; want 401 and none\n%s", a.status, g.count(), a.body)
			}
			if a.code != "token-invalid" && a.code != "token-expired" {
				t.Errorf("code %q", a.code)
			}
			if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_token"`) {
				t.Errorf("challenge %q", challenge)
			}
		})
	}
	for reason, want := range reasons {
		if got := g.refused(t, reason); got != want {
			t.Errorf("reason %s is counted %v times, want %v", reason, got, want)
		}
	}
	if n := listener.count(); n != 0 {
		t.Errorf("the address in a token's header was asked %d times", n)
	}
	// What issuers put there is no reason to refuse a token, and never a key.
	certified := map[string]any{"x5c": []string{"MIIB"}, "x5t": "AAAA", "x5t#S256": "AAAA"}
	if a := g.get(t, with(certified)); a.status != 200 {
		t.Errorf("a good token with x5c and x5t: %d %s", a.status, a.body)
	}
	if a := g.get(t, good); a.status != 200 {
		t.Errorf("the token that the attacks start from: %d %s", a.status, a.body)
	}
}

func flip(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)|1])
}

// TestAuthorizationHeader sends what an HTTP client would not.
func TestAuthorizationHeader(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", "jwt main")
	good := i.token(t)
	for _, c := range []struct {
		name, lines string
		status      int
		code        string
	}{
		{"plain", "Authorization: Bearer " + good, 200, ""},
		{"lower case", "authorization: bearer " + good, 200, ""},
		{"mixed case", "Authorization: BeArEr " + good, 200, ""},
		{"two spaces", "Authorization: Bearer  " + good, 200, ""},
		{"tab", "Authorization: Bearer\t" + good, 401, "token-missing"},
		{"another scheme", "Authorization: Basic YTpi", 401, "token-missing"},
		{"scheme alone", "Authorization: Bearer", 400, "token-ambiguous"},
		{"two headers", "Authorization: Bearer " + good + "\r\nAuthorization: Bearer " + good, 400, "token-ambiguous"},
		{"a good and a bad one", "Authorization: Basic YTpi\r\nAuthorization: Bearer " + good, 400, "token-ambiguous"},
		{"joined by a comma", "Authorization: Bearer " + good + ", Bearer " + good, 400, "token-ambiguous"},
		{"token, then words", "Authorization: Bearer " + good + " and more", 401, "token-invalid"},
		{"a megabyte", "Authorization: Bearer " + strings.Repeat("a.", 1<<19), 431, ""},
		{"17 kB", "Authorization: Bearer " + strings.Repeat("a", 17<<10), 401, "token-invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := rawRequest(t, g, "GET /orders HTTP/1.1\r\nHost: "+g.url[7:]+"\r\nConnection: close\r\n"+c.lines+"\r\n\r\n")
			if status != c.status || !strings.Contains(body, c.code) {
				t.Errorf("status %d %s, want %d %s", status, body, c.status, c.code)
			}
		})
	}
}

func rawRequest(t *testing.T, g *gateway, text string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, text) }() // the gateway may answer before it has read all
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // a refused megabyte ends in a reset
	return resp.StatusCode, string(body)
}

// TestSpoofedHeaders sends identity headers of the client's own in every way
// that has fooled a gateway.
func TestSpoofedHeaders(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", "jwt main {\n forward sub X-User-Id\n forward email X-User-Email\n optional\n preflight pass\n}")
	auth := "Authorization: Bearer " + i.token(t) + "\r\n"
	for _, c := range []struct{ name, method, auth, lines, body string }{
		{"plain", "GET", auth, "X-User-Id: root", ""},
		{"absent claim", "GET", auth, "X-User-Email: root@example.com", ""},
		{"lower case", "GET", auth, "x-user-id: root", ""},
		{"underscore", "GET", auth, "X_User_Id: root", ""},
		{"dot", "GET", auth, "X.User.Id: root", ""},
		{"twice", "GET", auth, "X-User-Id: root\r\nX-User-Id: root", ""},
		{"Connection", "GET", auth, "Connection: close, X-User-Id", ""},
		{"Connection, other spelling", "GET", auth, "Connection: close, x_user_id", ""},
		{"anonymous", "GET", "", "X-User-Id: root", ""},
		{"anonymous, underscore", "GET", "", "x_user_id: root", ""},
		{"preflight", "OPTIONS", "", "Origin: https://a\r\nAccess-Control-Request-Method: GET\r\nX-User-Id: root", ""},
		{"trailer", "POST", auth, "Transfer-Encoding: chunked\r\nTrailer: X-User-Id", "2\r\nhi\r\n0\r\nX-User-Id: root\r\n\r\n"},
		{"trailer out of the blue", "POST", auth, "Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\nX-User-Id: root\r\nX_User_Id: root\r\n\r\n"},
		{"undeclared trailer", "POST", auth, "Transfer-Encoding: chunked\r\nTrailer: X-Other", "2\r\nhi\r\n0\r\nX-User-Id: root\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := rawRequest(t, g, c.method+" /orders HTTP/1.1\r\nHost: "+g.url[7:]+"\r\n"+c.auth+c.lines+"\r\n\r\n"+c.body)
			if status != 200 {
				t.Fatalf("status %d %s", status, body)
			}
			want := "ada"
			if c.auth == "" {
				want = ""
			}
			seen := g.upstreamSaw(t)
			if got := strings.Join(seen.Header.Values("X-User-Id"), "|"); got != want {
				t.Errorf("X-User-Id = %q, want %q", got, want)
			}
			for name, values := range seen.Header {
				if strings.Contains(strings.Join(values, " "), "root") {
					t.Errorf("the upstream got %s: %q", name, values)
				}
			}
			for name, values := range seen.Trailer {
				if strings.Contains(strings.Join(values, " "), "root") {
					t.Errorf("the upstream got the trailer %s: %q", name, values)
				}
			}
		})
	}
}
