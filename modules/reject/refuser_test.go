package reject_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// guard is a guard that does nothing but refuse, in the way its directive
// `refuse <how>` names.
type guard struct {
	How string `json:"how"`
}

func init() {
	caddy.RegisterModule(guard{})
	httpcaddyfile.RegisterHandlerDirective("refuse", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		h.NextArg()
		return guard{How: h.Val()}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("refuse", httpcaddyfile.Before, "basic_auth")
}

func (guard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.refuse", New: func() caddy.Module { return new(guard) }}
}

func expired() *reject.Refusal {
	return &reject.Refusal{
		Room: "jwt", Kind: exchange.AuthRefused, Status: http.StatusUnauthorized,
		Code: "token-expired", Title: "The token has expired", Hint: "get a new token; 100% of old ones fail – always",
		Challenges: []string{`Bearer error="invalid_token"`},
		Err:        errors.New("exp is 12s ago"),
	}
}

func limited() *reject.Refusal {
	return &reject.Refusal{
		Room: "rate_limit", Kind: exchange.LimitRefused, Status: http.StatusTooManyRequests,
		Code: "limit-hit", Title: "Too many requests", RetryAfter: 1500 * time.Millisecond,
		Members: []reject.Member{{Name: "zone", Value: "login"}},
	}
}

func (g guard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch g.How {
	case "expired":
		return reject.Refuse(w, r, expired())
	case "limited":
		return reject.Refuse(w, r, limited())
	case "foreign":
		return caddyhttp.Error(http.StatusBadGateway, errors.New("dial tcp 10.0.0.1:80: connection refused"))
	case "bare":
		return errors.New("a handler's own mistake")
	case "hung-up":
		return caddyhttp.Error(499, errors.New("context canceled"))
	case "stale-headers":
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Content-Length", "99999")
		w.Header().Set("Trailer", "Grpc-Status")
		return reject.Refuse(w, r, limited())
	case "after-write":
		_, _ = io.WriteString(w, "first half")
		return fmt.Errorf("second half is gone")
	case "after-flush":
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		return fmt.Errorf("nothing came after the flush")
	case "early-hints":
		w.WriteHeader(http.StatusEarlyHints)
		return reject.Refuse(w, r, limited())
	}
	return next.ServeHTTP(w, r)
}
