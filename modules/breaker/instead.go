package breaker

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// refusals say each reason to the client.
var refusals = map[reason]reject.Refusal{
	circuitOpen: {
		Status: http.StatusServiceUnavailable,
		Title:  "The service behind this gateway is failing",
		Hint:   "The service has failed repeatedly and is given time to recover; try again later.",
	},
	busy: {
		Status: http.StatusServiceUnavailable,
		Title:  "The service behind this gateway is busy",
		Hint:   "As many requests as the service bears are on their way; try again later.",
	},
	deadlinePassed: {
		Status: http.StatusGatewayTimeout,
		Title:  "The service behind this gateway took too long",
		Hint:   "No answer came in the time that this route or the caller allows.",
	},
}

// proxyErrors are the registered error types of RFC 9209, section 2.3.
var proxyErrors = map[reason]string{
	circuitOpen:    "destination_unavailable",
	busy:           "connection_limit_reached",
	deadlinePassed: "http_response_timeout",
	noUpstream:     "destination_unavailable",
}

// proxyStatus is our member of the Proxy-Status field (RFC 9209).
type proxyStatus struct{ name string }

func newProxyStatus(name string) proxyStatus {
	switch {
	case name == "":
		return proxyStatus{"sallyport"}
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || strings.ContainsRune("\"\\;,()=<>[]{}?@", r) }):
		return proxyStatus{strconv.Quote(name)}
	}
	return proxyStatus{name}
}

func (p proxyStatus) add(h http.Header, why reason) {
	h.Add("Proxy-Status", p.name+"; error="+proxyErrors[why]+`; details="`+string(why)+`"`)
}

// instead answers a request that no upstream does: by the first fallback that
// can, or else with err if there is one that is not ours, or a refusal.
func (h *Handler) instead(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, why reason, x *crossing, err error) error {
	now := time.Now()
	ours := why != noUpstream
	if ours {
		refusedTotal.WithLabelValues(h.Policy.Name, enforce, string(why)).Inc()
	}
	grpc := isGRPC(r)
	var wait time.Duration
	switch why {
	case circuitOpen:
		exchange.Of(r).Note("breaker.state", "open")
		wait = h.retryAfter(now)
	case busy:
		wait = time.Second
	}
	for _, f := range h.Fallbacks {
		if grpc && f.Kind != alternate {
			continue
		}
		if f.Kind == respond {
			h.status.add(w.Header(), why)
			if wait > 0 {
				w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
			}
		}
		if f.serve(h, w, r, next, x != nil && x.touched()) {
			h.note(r, f.Kind, why)
			return nil
		}
	}
	if !ours {
		return err
	}
	h.status.add(w.Header(), why)
	if grpc && wait > 0 {
		w.Header().Set("Grpc-Retry-Pushback-Ms", strconv.FormatInt(wait.Milliseconds(), 10))
	}
	ref := refusals[why]
	ref.Room, ref.Kind, ref.Code, ref.RetryAfter = "breaker_proxy", exchange.ProxyRefused, string(why), wait
	ref.Attrs = []slog.Attr{slog.String("breaker", h.Policy.Name)}
	return reject.Refuse(w, r, &ref)
}

// note writes on the card and in the access log that a fallback answered.
func (h *Handler) note(r *http.Request, kind string, why reason) {
	card := exchange.Of(r)
	card.Fallback, card.FallbackReason = kind, string(why)
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(zap.String("fallback", kind))
		extra.Add(zap.String("fallback_reason", string(why)))
	}
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}
