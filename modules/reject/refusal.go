// Package reject is the way out: a guard describes why it refuses a request,
// and the client hears it in the protocol it speaks.
package reject

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// TypeBase is where the problem types are described; the code is the anchor.
const TypeBase = "https://github.com/sallyport-gateway/sallyport/blob/main/docs/problems.md#"

// Refusal is one guard's no, complete: what the client hears, what observers
// write down, and what only the log may know.
type Refusal struct {
	// Room is the directive that refuses, such as `jwt`.
	Room string
	// Kind is the fact that observers hear of.
	Kind exchange.Kind
	// Status is the HTTP status.
	Status int
	// Code is the stable name of the reason, in kebab case. It never changes
	// between releases, so that clients and alerts may branch on it.
	Code string
	// Title says the reason in a few words, the same for every occurrence.
	Title string
	// Hint says what the client can do about it. It holds nothing that the
	// client did not send or may not know.
	Hint string
	// Type is the problem type URI. Default: TypeBase and Code.
	Type string
	// RetryAfter is when to try again, rounded up to whole seconds on the
	// wire. Zero sends no Retry-After.
	RetryAfter time.Duration
	// Challenges are the values of WWW-Authenticate. The list becomes the
	// answer's own.
	Challenges []string
	// Members are extension members of the problem document, in the order of
	// their names.
	Members []Member
	// GRPCCode is the gRPC status code. Default: derived from Status.
	GRPCCode int
	// Attrs are details for observers.
	Attrs []slog.Attr
	// Err is the cause. It stays in the log.
	Err error
}

// Member is one extension member of a problem document.
type Member struct {
	Name string
	// Value has a form in JSON.
	Value any
}

// Error says the code and the cause.
func (r *Refusal) Error() string {
	if r.Err != nil {
		return fmt.Sprintf("%s: %s: %v", r.Room, r.Code, r.Err)
	}
	return r.Room + ": " + r.Code
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// From returns the Refusal in err's tree, or nil.
func From(err error) *Refusal {
	ref, _ := errors.AsType[*Refusal](err)
	return ref
}

// Refuse ends the request with ref. It sets the headers that belong to the
// refusal, writes it on the card, the access log and the metrics, and tells
// the observers. What it returns is to be returned by the handler: an error
// for `problem` or the site's `handle_errors` to answer, or nil where the site
// has neither and the answer has been written.
func Refuse(w http.ResponseWriter, r *http.Request, ref *Refusal) error {
	x := exchange.Of(r)
	if x.Refusal.Code == "" {
		x.Refusal = exchange.Refusal{Room: ref.Room, Code: ref.Code, Status: ref.Status}
	}
	ref.setHeaders(w.Header())
	refusals.WithLabelValues(ref.Room, ref.Code).Inc()
	if extra := logFields(r); extra != nil {
		extra.Add(zap.String("refusal", ref.Code))
		if ref.Err != nil {
			extra.Add(zap.NamedError("refusal_cause", ref.Err))
		}
	}
	if exchange.Heard() {
		exchange.Report(exchange.Fact{Kind: ref.Kind, Time: time.Now(), Code: ref.Code, Request: r, Attrs: ref.Attrs})
	}

	err := caddyhttp.HandlerError{StatusCode: ref.Status, Err: ref}
	// Error pages are no answer to an RPC caller, who cannot read them.
	if x.Spoken || tongueOf(r) == document && answered(r, err) {
		return err
	}
	Write(w, r, err)
	return nil
}

// logFields returns where the access log's fields go, or nil if nobody logs.
func logFields(r *http.Request) *caddyhttp.ExtraLogFields {
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil && server.Logs == nil {
		return nil
	}
	extra, _ := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	return extra
}

func (r *Refusal) setHeaders(h http.Header) {
	switch earlier := h[challenge]; {
	case len(r.Challenges) == 0:
	case len(earlier) > 0:
		h[challenge] = append(earlier, r.Challenges...)
	default:
		h[challenge] = slices.Clip(r.Challenges)
	}
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(ceilSeconds(r.RetryAfter), 10))
	}
}

// challenge is WWW-Authenticate as maps of headers have it.
const challenge = "Www-Authenticate"

func ceilSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
