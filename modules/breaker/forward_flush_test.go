package breaker

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestPiecesComeAfterTheFlushInterval has an upstream go on only when the client
// has what came before.
func TestPiecesComeAfterTheFlushInterval(t *testing.T) {
	const pieces = 3
	seen := make(chan bool, pieces+1)
	u := newUpstream(t)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", fmt.Sprint(pieces*5))
		for range pieces {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, "piece")
		}
	})
	u.handler.Store(&answer)
	proxy := strings.Replace(proxyTo(u.addr), "{", `{"flush_interval":"1ms",`, 1)
	lean := build(t, `{"policy":{"name":"%s"},"proxy":`+proxy+`}`)
	if w := lean.way(); w.Way != leanWay {
		t.Fatalf("the way is %s", w)
	}
	for name, h := range map[string]caddyhttp.MiddlewareHandler{"reverse_proxy": stock(t, proxy), "lean": lean} {
		t.Run(name, func(t *testing.T) {
			res, err := http.Get(front(t, h).URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			for range pieces {
				seen <- true
				piece := make([]byte, 5)
				if _, err := io.ReadFull(res.Body, piece); err != nil || string(piece) != "piece" {
					t.Fatalf("read %q, %v", piece, err)
				}
			}
		})
	}
}
