package jwtauth

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// wsServer takes WebSocket handshakes: it selects the subprotocol that its
// path names by number among those offered, and then sends back what it gets.
func wsServer(t *testing.T) (address string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n")
		var offered []string
		for _, p := range protocols(r) {
			if len(p) > 20 { // the answer is logged, too
				p = "a token"
			}
			offered = append(offered, p)
		}
		fmt.Fprintf(rw, "X-Offered: %s\r\n", strings.Join(offered, "|"))
		var n int
		if _, err := fmt.Sscanf(r.URL.Path, "/select/%d", &n); err == nil {
			fmt.Fprintf(rw, "Sec-WebSocket-Protocol: %s\r\n", protocols(r)[n])
		}
		fmt.Fprint(rw, "\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// upgrade asks for a WebSocket and returns the answer and the connection.
func (g *gateway) upgrade(t *testing.T, path string, lines ...string) (*http.Response, *bufio.Reader, net.Conn) {
	t.Helper()
	host := strings.TrimPrefix(g.url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	if g.sockets = append(g.sockets, conn); len(g.sockets) == 1 {
		t.Cleanup(func() { g.hangUp(t) })
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp, reader, conn
}

// hangUp closes the WebSockets and waits until the gateway has noticed: of one
// that is open when the process is told to end, two goroutines of Caddy's count
// the bytes at once.
func (g *gateway) hangUp(t *testing.T) {
	for _, conn := range g.sockets {
		conn.Close()
	}
	waitFor(t, "the gateway to be done", func() bool {
		done, began := 0, 0
		for _, line := range g.Lines() {
			if strings.Contains(line, `"msg":"upgrading connection"`) {
				began++
			}
			if strings.Contains(line, `"msg":"handled request"`) && strings.Contains(line, `"status":101`) {
				done++
			}
		}
		return done >= began
	})
}

// A browser gives up on a WebSocket whose answer selects none of the
// subprotocols it offered, so the answer selects one, and never the token.
func TestSubprotocols(t *testing.T) {
	i := newIDP(t, "EdDSA")
	upstream := wsServer(t)
	g := new(gateway)
	g.run(t, func() (string, string) {
		return i.global(""), "jwt main {\n source websocket\n}\nreverse_proxy " + upstream
	})
	tok := i.token(t)
	encoded := base64.RawURLEncoding.EncodeToString([]byte(tok))
	suite.remember(t, encoded)
	k8s := kubernetesProtocol + encoded
	for _, c := range []struct {
		name, path, offer string
		status            int
		selected, seen    string
	}{
		{"token alone", "/", "bearer, " + tok, 101, "bearer", ""},
		{"token and another, none selected", "/", "bearer, " + tok + ", chat", 101, "bearer", "chat"},
		{"token and another, selected", "/select/0", "bearer, " + tok + ", chat", 101, "chat", "chat"},
		{"the second of two", "/select/1", "chat, bearer, " + tok + ", v2.chat", 101, "v2.chat", "chat|v2.chat"},
		{"as Kubernetes does", "/select/0", "v4.channel.k8s.io, " + k8s, 101, "v4.channel.k8s.io", "v4.channel.k8s.io"},
		{"as Kubernetes does, none selected", "/", "v4.channel.k8s.io, " + k8s, 101, "", "v4.channel.k8s.io"},
		{"a bad token", "/", "bearer, " + tok[:len(tok)-4] + "AAAA", 401, "", ""},
		{"no token", "/", "chat", 401, "", ""},
	} {
		resp, _, _ := g.upgrade(t, c.path, "Sec-WebSocket-Protocol: "+c.offer)
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.status)
			continue
		}
		if got := strings.Join(resp.Header.Values("Sec-Websocket-Protocol"), "|"); got != c.selected {
			t.Errorf("%s: the answer selects %q, want %q", c.name, got, c.selected)
		}
		if got := resp.Header.Get("X-Offered"); got != c.seen {
			t.Errorf("%s: the upstream was offered %q, want %q", c.name, got, c.seen)
		}
	}
}

// An upstream that is given the token and selects it is not listened to.
func TestSelectedTokenIsNotAnswered(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := new(gateway)
	upstream := wsServer(t)
	g.run(t, func() (string, string) {
		return i.global(""), "jwt main {\n source websocket\n token keep\n}\nreverse_proxy " + upstream
	})
	tok := i.token(t)
	k8s := kubernetesProtocol + base64.RawURLEncoding.EncodeToString([]byte(tok))
	for offer, want := range map[string]string{"bearer, " + tok: "bearer", "chat, " + k8s: ""} {
		resp, _, _ := g.upgrade(t, "/select/1", "Sec-WebSocket-Protocol: "+offer)
		if got := resp.Header.Get("Sec-Websocket-Protocol"); resp.StatusCode != 101 || got != want {
			t.Errorf("%s, selected %.20q, want %q", resp.Status, got, want)
		}
	}
}

// A page of another origin gets nothing done with the cookie that the browser
// adds to its requests.
func TestCookiesOfOtherOrigins(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := launch(t, i, "", "jwt /any/* main {\n source cookie session\n origins any\n}\n@other not path /any/*\njwt @other main {\n source cookie session\n source header\n origins https://app.example.com HTTPS://other.example.com:443\n}")
	tok := i.token(t)
	host := strings.TrimPrefix(g.url, "http://")
	cookie := []string{"Cookie", "session=" + tok}
	for _, c := range []struct {
		name, method, path string
		headers            []string
		status             int
	}{
		{"no sign of a browser", "POST", "/", cookie, 200},
		{"own page", "POST", "/", append(cookie, "Origin", g.url), 200},
		{"own page, newer browser", "POST", "/", append(cookie, "Origin", g.url, "Sec-Fetch-Site", "same-origin"), 200},
		{"typed in", "POST", "/", append(cookie, "Sec-Fetch-Site", "none"), 200},
		{"foreign page", "POST", "/", append(cookie, "Origin", "https://evil.example"), 403},
		{"foreign page, newer browser", "POST", "/", append(cookie, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), 403},
		{"sibling host", "POST", "/", append(cookie, "Origin", "http://a."+host, "Sec-Fetch-Site", "same-site"), 403},
		{"no origin told", "POST", "/", append(cookie, "Sec-Fetch-Site", "cross-site"), 403},
		{"sandboxed page", "POST", "/", append(cookie, "Origin", "null"), 403},
		{"DELETE", "DELETE", "/", append(cookie, "Origin", "https://evil.example"), 403},
		{"reading", "GET", "/", append(cookie, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), 200},
		{"listed", "POST", "/", append(cookie, "Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site"), 200},
		{"listed with its port", "POST", "/", append(cookie, "Origin", "https://other.example.com", "Sec-Fetch-Site", "cross-site"), 200},
		{"begins like a listed one", "POST", "/", append(cookie, "Origin", "https://app.example.com.evil.example"), 403},
		{"not checked", "POST", "/any/", append(cookie, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), 200},
		{"token in a header", "POST", "/", []string{"Authorization", "Bearer " + tok, "Origin", "https://evil.example"}, 200},
		{"WebSocket of a foreign page", "GET", "/", append(cookie, "Origin", "https://evil.example", "Connection", "Upgrade", "Upgrade", "websocket"), 403},
		{"WebSocket of its own page", "GET", "/", append(cookie, "Origin", g.url, "Connection", "Upgrade", "Upgrade", "websocket"), 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, g.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(c.headers); n += 2 {
			req.Header[c.headers[n]] = []string{c.headers[n+1]}
		}
		a := g.do(t, req)
		if a.status != c.status || c.status == 403 && a.code != "origin-refused" {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.status)
		}
	}
	if n := g.refused(t, "origin"); n != 8 {
		t.Errorf("%v are counted as of another origin, want 8", n)
	}
}
