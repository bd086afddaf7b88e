package jwtauth

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// No log tells any part of a token, at the most talkative level, whether the
// token is good or bad and wherever it was sent. Caddy copies the request for
// its log before any handler runs, so for places other than Authorization and
// cookies the log needs the filter that the docs page shows.
func TestNoLogTellsAToken(t *testing.T) {
	i := newIDP(t, "EdDSA")
	dir := t.TempDir()
	log := filepath.Join(dir, "all.log")
	address := freeAddress(t)
	config := adapt(t, `{
		admin off
		persist_config off
		debug
		storage file_system `+dir+`
		log {
			output file `+log+`
			level DEBUG
			format filter {
				wrap json
				request>uri query {
					replace access_token REDACTED
				}
				request>headers>Sec-Websocket-Protocol delete
				request>headers>X-Api-Token delete
				request>headers>Dpop delete
			}
		}
		issuer main {
			issuer `+i.URL+`
			jwks `+i.URL+`
			audience `+testAudience+`
		}
	}
	http://`+address+` {
		log
		jwt main {
			source header
			source header X-Api-Token
			source cookie session
			source query access_token
			source websocket
			forward sub X-User-Id
		}
		reverse_proxy `+strings.TrimPrefix(i.URL, "http://")+`
	}`)
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	g := &gateway{url: "http://" + address}
	const canary = "canary0123456789canary"
	bad := "eyJ" + base64.RawURLEncoding.EncodeToString([]byte(canary)) + "." + canary + "." + canary
	good := i.token(t, map[string]any{"jti": canary})
	expired := i.token(t, map[string]any{"jti": canary, "exp": 1e9})
	for _, tok := range []string{bad, good, expired} {
		k8s := kubernetesProtocol + base64.RawURLEncoding.EncodeToString([]byte(tok))
		g.get(t, tok)
		g.get(t, "", "X-Api-Token", tok)
		g.get(t, "", "Cookie", "session="+tok)
		g.get(t, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Protocol", "bearer, "+tok)
		g.get(t, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Protocol", k8s)
		g.get(t, tok, "Authorization", "Bearer "+tok)
		g.get(t, tok, "X-Api-Token", tok)
		g.get(t, tok, "Dpop", tok)
		for _, query := range []string{"?a=b&access_token=" + tok, "?access%5ftoken=" + tok + "&x"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/"+query, nil)
			if err != nil {
				t.Fatal(err)
			}
			g.do(t, req)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "handled request"); n != 30 {
		t.Fatalf("%d requests are logged, want 30", n)
	}
	var parts []string
	for _, tok := range []string{bad, good, expired} {
		for part := range strings.SplitSeq(tok, ".") {
			parts = append(parts, part[:12], part[len(part)-12:])
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString([]byte(tok))[:24])
	}
	for line := range strings.Lines(string(text)) {
		for _, part := range append(parts, canary) {
			if strings.Contains(line, part) {
				t.Errorf("the log tells %q: %.300s", part, line)
			}
		}
	}
}
