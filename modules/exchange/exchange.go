// Package exchange carries what is known so far about one request: who is
// asking, what each guard decided, which upstreams were tried. Guards write on
// it, observers read it on the way back, and neither knows the other.
//
// An Exchange belongs to the goroutine that serves its request. Reverse_proxy
// calls its transport on that same goroutine, so a transport may write too;
// a response body that is read later by another goroutine may not.
package exchange

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const varKey = "sallyport.exchange"

// Exchange is the card of one request. Its scalar facts are placeholders:
//
// Placeholder | Meaning
// ------------|--------
// `{sallyport.subject}` | Subject of the verified caller
// `{sallyport.issuer}` | Configured name of the issuer that vouches for the caller
// `{sallyport.zone}` | Rate-limit zone that decided: the one that refused, or else the tightest
// `{sallyport.refusal}` | Code of the refusal, such as `token-expired`
// `{sallyport.upstream}` | Address of the last upstream tried
// `{sallyport.fallback}` | Kind of fallback that answered, such as `respond`
// `{sallyport.fallback_reason}` | Why the fallback answered, such as `circuit-open`
// `{sallyport.trace_id}` | Trace id of the server span, when there is one
// `{sallyport.cache.status}` | What the cache did: `hit`, `miss`, `stale`, `revalidated`, `collapsed` or `bypass`
// `{sallyport.cache.reason}` | Why, such as `no-store`
// `{sallyport.flag.<name>}` | Variant of the flag that the caller gets, where the route has a `flag` matcher or `flags` before
// `{sallyport.route}` | Configured route that the request took, such as `api.example.com/orders/*`
type Exchange struct {
	// Began is when the first room saw the request.
	Began time.Time

	// Identity is the verified caller; its zero value is an anonymous one.
	Identity Identity

	// Zones holds each rate-limit decision, in the order they were taken.
	Zones []Zone

	// Attempts holds each try of an upstream, in order.
	Attempts []*Attempt

	// Refusal is the first refusal of a guard; its zero value means none.
	Refusal Refusal

	// Fallback is the kind of answer given in the upstream's place, and why.
	Fallback, FallbackReason string

	// Cache is what the cache did with the request; its zero value means that
	// none was asked.
	Cache Cache

	// Stale may answer in the place of an upstream that fails. The cache puts
	// it here before it asks the upstream, where it holds an answer that
	// RFC 9111 section 4.2.4 lets it use then; else it is nil. A handler
	// between the cache and the upstream may serve it, or leave that to the
	// cache, which does so when it gets an error or a 500, 502, 503 or 504.
	Stale Stale
	// Route is the configured route, never the path that was asked for. It is
	// empty where no telemetry runs.
	Route string

	// Flags answers for the flags of the request. It is nil until the flags room
	// has seen the request.
	Flags Flags

	// Proxied answers for the placeholders of reverse_proxy where something else
	// has forwarded the request in its place; nil: nothing has.
	Proxied Proxied

	// Notes are further decisions, such as the state of a circuit.
	Notes []Note

	// Audited says that an audit event tells of this request, alone or
	// together with others like it.
	Audited bool

	// TraceID and SpanID identify the server span in lower-case hex.
	TraceID, SpanID string

	// Watch hears each upstream attempt begin and end. The telemetry room
	// sets it before the guards run; nil means nobody watches.
	Watch Watcher

	// Spoken says that a handler further out turns returned errors into
	// answers, so a guard need not render its own refusal.
	Spoken bool

	zones    [2]Zone
	attempts [2]*Attempt
	notes    [2]Note
}

// Identity is who a guard found the caller to be.
type Identity struct {
	// Subject is the `sub` claim; Issuer the configured name of the issuer.
	Subject, Issuer string
	// TokenID is the `jti` claim.
	TokenID string
	// Claims answers for a claim by its path. Nil for an anonymous caller.
	Claims Claims
}

// Claims looks up one claim of a verified token.
type Claims interface {
	Claim(path string) (value any, ok bool)
}

// Zone is the decision of one rate-limit zone.
type Zone struct {
	Name string
	// Result is `allowed`, `refused`, `dry_refused` or `error`.
	Result string
	// Source is who decided: `local`, `redis`, `deny_cache` or `fallback`.
	Source string
	// Limit and Remaining are in requests of the zone's own quota.
	Limit, Remaining int64
	// RetryAfter is how long a refused caller must wait.
	RetryAfter time.Duration
}

// Attempt is one try of one upstream.
type Attempt struct {
	// Upstream is the dial address.
	Upstream string
	Began    time.Time
	// Duration runs from Began to the end of the answer's body.
	Duration time.Duration
	// Status is the answer's HTTP status, zero if there was none.
	Status int
	// Err is why there was no answer, or why it broke off.
	Err error
	// Span belongs to the Watcher.
	Span any
}

// Cache is the decision of the cache.
type Cache struct {
	// Status is `hit`, `miss`, `stale`, `revalidated`, `collapsed` or `bypass`.
	Status string
	// Reason says why, such as `no-store`; empty where Status says it all.
	Reason string
}

// Stale is a kept answer past its time that may stand in for the upstream's.
type Stale interface {
	// Serve answers r on w, to which no answer may have been begun. The cache
	// in front recognizes the answer as its own: it is neither kept again nor
	// replaced.
	Serve(w http.ResponseWriter, r *http.Request) error
	// Age is how old the answer is.
	Age() time.Duration
}

// Flags says which variant of a flag the request's caller gets.
type Flags interface {
	// Variant is empty for a flag of which nothing is known.
	Variant(flag string) string
}

// Proxied answers for placeholders.
type Proxied interface {
	Placeholder(key string) (value any, ok bool)
}

// Note is one decision about the request, for spans and logs.
type Note struct {
	// Key is in snake case with dots, such as `breaker.state`, and the same
	// for every request.
	Key, Value string
}

// Step is work that a guard waited for on the request's path, such as a round
// trip to Redis or a fetch of keys.
type Step struct {
	// Name is the same for every request, such as `redis take`.
	Name string
	// System is what was asked, such as `redis`; empty for HTTP.
	System string
	// Server is the address that was asked.
	Server string
	Began  time.Time
	Took   time.Duration
	Err    error
}

// Refusal is what the observers need to know of a reject.Refusal.
type Refusal struct {
	// Room is the guard that refused, such as `jwt`.
	Room string
	// Code is the stable name of the reason, such as `token-expired`.
	Code   string
	Status int
}

// Watcher hears of upstream attempts on the request's own goroutine.
type Watcher interface {
	// Begin may add propagation headers to out, the request about to be sent.
	Begin(out *http.Request, a *Attempt)
	// End hears of the same attempt once its outcome is known. It may run on
	// the goroutine that reads the answer's body, after the handler returned.
	End(a *Attempt)
}

// Note writes a decision down; a second one with the key takes its place.
func (x *Exchange) Note(key, value string) {
	for i := range x.Notes {
		if x.Notes[i].Key == key {
			x.Notes[i].Value = value
			return
		}
	}
	x.Notes = append(x.Notes, Note{key, value})
}

// Step tells the watcher of work that is done. On the request's own goroutine.
func (x *Exchange) Step(s Step) {
	if x == nil {
		return
	}
	if w, ok := x.Watch.(interface{ Step(Step) }); ok {
		w.Step(s)
	}
}

// In returns the card of the request that ctx is of, or nil where there is
// none. On the request's own goroutine, like everything on the card.
func In(ctx context.Context) *Exchange {
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	x, _ := vars[varKey].(*Exchange)
	return x
}

// Of returns the card of r, making it on first use.
func Of(r *http.Request) *Exchange {
	vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		// Not a request of Caddy's HTTP server: nobody could read the card again.
		return new(Exchange)
	}
	if x, ok := vars[varKey].(*Exchange); ok {
		return x
	}
	x := &Exchange{Began: time.Now()}
	x.Zones, x.Attempts, x.Notes = x.zones[:0], x.attempts[:0], x.notes[:0]
	vars[varKey] = x
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(x.placeholder)
	}
	return x
}

// Begin notes a new upstream attempt and tells the watcher.
func (x *Exchange) Begin(out *http.Request, a *Attempt) {
	x.Attempts = append(x.Attempts, a)
	if x.Watch != nil {
		x.Watch.Begin(out, a)
	}
}

// String keeps the card out of anything that prints request variables.
func (*Exchange) String() string { return "" }
