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
}

// listener is one entry of the list that Report walks.
type listener struct {
	name string
	hear func(Fact)
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

// Listen has hear called with every Fact until stop is called. Of several
// listeners with one name only the newest hears: during a reload two
// configurations overlap, and a fact must not be written down twice. Hear must
// not block and must not call Report.
func Listen(name string, hear func(Fact)) (stop func()) {
	l := &listener{name: name, hear: hear}
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
