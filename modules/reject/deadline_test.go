package reject

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// An upstream that gives up at the caller's deadline resets the stream, which
// the proxy calls a bad gateway. The caller is to hear what it was.
func TestCallPastItsDeadline(t *testing.T) {
	reset := caddyhttp.Error(http.StatusBadGateway, errors.New("stream error: CANCEL"))
	for _, c := range []struct {
		name, timeout string
		age           time.Duration
		err           error
		want          string
	}{
		{"passed", "1m", 5 * time.Millisecond, reset, "4"},
		{"not yet", "10S", 5 * time.Millisecond, reset, "14"},
		{"none", "", time.Hour, reset, "14"},
		{"crooked", "soon", time.Hour, reset, "14"},
		{"too long a number", "123456789m", time.Hour * 1e4, reset, "14"},
		{"a refusal says what it means", "1m", time.Second, &Refusal{Status: 401, Code: "token-missing"}, "16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/orders.v1.Orders/Get", nil)
			r.ProtoMajor = 2
			r.Header.Set("Content-Type", "application/grpc")
			if c.timeout != "" {
				r.Header.Set("Grpc-Timeout", c.timeout)
			}
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
			exchange.Of(r).Began = time.Now().Add(-c.age)
			Write(w, r, c.err)
			if got := w.Header().Get("Grpc-Status"); got != c.want {
				t.Errorf("grpc-timeout %q after %s: status %s, want %s", c.timeout, c.age, got, c.want)
			}
		})
	}
}
