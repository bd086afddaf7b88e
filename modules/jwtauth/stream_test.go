package jwtauth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// streamer answers with a stream of the kind that the path names: a first
// piece at once, another each time `more` is sent to, and no end.
func streamer(t *testing.T, more <-chan struct{}) (address string) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, _ := strings.CutPrefix(r.URL.Path, "/")
		if kind == "silent" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", kind)
		for {
			_, _ = io.WriteString(w, "data: piece\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}))
	server.Config.Protocols = protocols
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func streaming(t *testing.T, i *idp, streams, upstream string) *gateway {
	g := new(gateway)
	g.run(t, func() (string, string) {
		return i.global("leeway 0s"), "jwt main {\n source header\n source websocket\n streams " + streams + "\n}\nreverse_proxy h2c://" + upstream
	})
	return g
}

// shortly is a token that is good for a few seconds.
func (i *idp) shortly(t *testing.T) string {
	return i.token(t, map[string]any{"exp": time.Now().Add(4 * time.Second).Unix()})
}

// Streams end with their token, each in the way its client understands.
func TestStreamsExpire(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := streaming(t, i, "expire", streamer(t, nil))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	h2c := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer h2c.CloseIdleConnections()
	for _, c := range []struct {
		kind   string
		client *http.Client
		want   error
	}{
		{"text/event-stream", http.DefaultClient, nil},
		{"text/event-stream", h2c, nil},
		{"application/grpc+proto", h2c, nil},
		{"application/x-ndjson", http.DefaultClient, io.ErrUnexpectedEOF}, // it must not look complete
	} {
		t.Run(c.kind, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/"+c.kind, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+i.shortly(t))
			req.Header.Set("Content-Type", c.kind)
			resp, err := c.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != 200 || !strings.HasPrefix(string(body), "data: piece\n\n") || !errors.Is(err, c.want) {
				t.Fatalf("%s %q, ends with %v, want %v", resp.Status, body, err, c.want)
			}
			if got := resp.Trailer.Get("Grpc-Status"); strings.Contains(c.kind, "grpc") && got != "16" {
				t.Errorf("Grpc-Status %q, want 16; trailers %v", got, resp.Trailer)
			}
		})
	}
	t.Run("not answered yet", func(t *testing.T) {
		if a := g.getAt(t, "/silent", i.shortly(t)); a.status != 401 || a.code != "token-expired" {
			t.Errorf("%d %s, want 401 token-expired", a.status, a.body)
		}
	})
	if n := g.metric(t, "sallyport_jwt_streams_ended_total", `issuer="main"`); n != 5 {
		t.Errorf("%v are counted as ended, want 5", n)
	}
}

func TestWebSocketExpires(t *testing.T) {
	i := newIDP(t, "EdDSA")
	g := new(gateway)
	upstream := wsServer(t)
	g.run(t, func() (string, string) {
		return i.global("leeway 0s"), "jwt main {\n source websocket\n streams expire\n}\nreverse_proxy " + upstream
	})
	resp, reader, conn := g.upgrade(t, "/", "Sec-WebSocket-Protocol: bearer, "+i.shortly(t))
	if resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(reader)
	if want := "ping\x88\x0f\x03\xf0token-expired"; err != nil || string(all) != want {
		t.Errorf("the client reads %q, %v; want %q and the end", all, err, want)
	}
}

// Without the option, a stream goes on for as long as both ends like.
func TestStreamsOutliveTheirToken(t *testing.T) {
	i := newIDP(t, "EdDSA")
	more := make(chan struct{})
	g := streaming(t, i, "keep", streamer(t, more))
	tok := i.shortly(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/text/event-stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tok)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for n := range 2 {
		if line, err := lines.ReadString('\n'); err != nil || line != "data: piece\n" {
			t.Fatalf("piece %d: %q %v", n, line, err)
		}
		if _, err := lines.Discard(1); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			waitFor(t, "the token to expire", func() bool { return time.Now().Unix() > expiryOf(t, tok) })
			more <- struct{}{}
		}
	}
}

func expiryOf(t *testing.T, raw string) int64 {
	t.Helper()
	tok, err := token.Parse(raw, token.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	exp, _ := tok.Expires()
	return exp / 1000
}

// global are the options of an issuer named main.
func (i *idp) global(options string) string {
	return fmt.Sprintf("issuer main {\n issuer %s\n jwks %s\n audience %s\n %s\n}", i.URL, i.URL, testAudience, options)
}
