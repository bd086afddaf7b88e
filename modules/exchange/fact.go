package exchange

import (
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind names what happened. Each kind is one class of audit event.
type Kind string

// The kinds that the rooms report.
const (
	AuthRefused    Kind = "auth.refused"
	LimitRefused   Kind = "limit.refused"
	ProxyRefused   Kind = "proxy.refused"
	CircuitChanged Kind = "circuit.changed"
	KeysStale      Kind = "keys.stale"
	KeysRefreshed  Kind = "keys.refreshed"
	FlagChanged    Kind = "flag.changed"
	CachePurged    Kind = "cache.purged"
	// AuthGranted is told only where somebody has asked for it; see Wanted.
	AuthGranted Kind = "auth.granted"
)

// Fact is something that happened and that somebody may want to write down.
type Fact struct {
	Kind Kind
	Time time.Time
	// Code is the stable reason, such as `token-expired` or `open`.
	Code string
	// Request is the request it happened to, or nil. It is valid during the
	// call only, and so is everything reached through it.
	Request *http.Request
	// Attrs are details in the reporter's words. They never hold a secret.
	Attrs []slog.Attr
	// Order is the CallHeader of the admin request that ordered it, if there
	// was one: by it the audit knows whose order it was.
	Order string
}

// CallHeader is the header by which the admin front names the call that it
// passes on to the admin endpoint.
const CallHeader = "Sallyport-Call"

// listener is one entry of the list that Report walks.
type listener struct {
	name string
	hear func(Fact)
	also []Kind
}

var (
	listenMu sync.Mutex // guards writes of all and active
	all      []*listener
	active   atomic.Pointer[[]*listener]
	nobody   = []*listener{}
)

// Report hands f to every active listener, on the caller's goroutine.
func Report(f Fact) {
	for _, l := range *activeListeners() {
		l.hear(f)
	}
}

// Heard says whether anybody listens, for reporters whose facts are costly to make.
func Heard() bool { return len(*activeListeners()) > 0 }

// Wanted says whether somebody has asked for facts of a kind that comes with
// every request and is not told otherwise.
func Wanted(k Kind) bool {
	for _, l := range *activeListeners() {
		if slices.Contains(l.also, k) {
			return true
		}
	}
	return false
}

// Listen has hear called with every Fact until stop is called, also with those
// that are told only where they are wanted. Of several
// listeners with one name only the newest hears: during a reload two
// configurations overlap, and a fact must not be written down twice. Hear must
// not block and must not call Report.
func Listen(name string, hear func(Fact), also ...Kind) (stop func()) {
	l := &listener{name, hear, also}
	listenMu.Lock()
	defer listenMu.Unlock()
	all = append(all, l)
	publishLocked()
	return sync.OnceFunc(func() {
		listenMu.Lock()
		defer listenMu.Unlock()
		all = slices.DeleteFunc(all, func(o *listener) bool { return o == l })
		publishLocked()
	})
}

func publishLocked() {
	newest := make([]*listener, 0, len(all))
	for i, l := range all {
		superseded := slices.ContainsFunc(all[i+1:], func(o *listener) bool { return o.name == l.name })
		if !superseded {
			newest = append(newest, l)
		}
	}
	active.Store(&newest)
}

func activeListeners() *[]*listener {
	if ls := active.Load(); ls != nil {
		return ls
	}
	return &nobody
}
