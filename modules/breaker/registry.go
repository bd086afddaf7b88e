package breaker

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// pool holds the circuits over reloads. Its keys are names, never thresholds:
// those come with each configuration.
var pool = caddy.NewUsagePool()

// key names one circuit, or with the upstream `*` all the circuits of a
// policy's changing upstreams.
type key struct{ policy, upstream string }

const changing = "*"

// tracked is the circuit of one upstream under one policy.
type tracked struct {
	*circuit.Circuit
	key
	// series is what metrics call the upstream: its address where that stands
	// in the configuration, `dynamic` where it comes and goes.
	series   string
	results  [3]prometheus.Counter // by circuit.Outcome
	lastUsed atomic.Int64          // Unix seconds, kept for changing upstreams
	lastFail atomic.Pointer[failing]
	order    string // of the admin request that forces or resets it; see ordering

	mu       sync.Mutex // guards handlers
	handlers []*Handler // that use it, where it is configured
}

// failing is the last thing that went wrong with an upstream.
type failing struct {
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

func newTracked(k key, series string) *tracked {
	t := &tracked{key: k, series: series}
	t.Circuit = circuit.New(time.Now(), func(c circuit.Change) { announce(t, c) })
	for o := range t.results {
		t.results[o] = resultsTotal.WithLabelValues(k.policy, series, circuit.Outcome(o).String())
	}
	return t
}

// Destruct forgets the metrics of an upstream that no configuration names any
// more.
func (t *tracked) Destruct() error {
	labels := prometheus.Labels{"breaker": t.policy, "upstream": t.series}
	resultsTotal.DeletePartialMatch(labels)
	transitionsTotal.DeletePartialMatch(labels)
	probesTotal.DeletePartialMatch(labels)
	return nil
}

// acquire returns the circuit of k, which release gives back.
func acquire(k key) (*tracked, error) {
	v, _, err := pool.LoadOrNew(k, func() (caddy.Destructor, error) { return newTracked(k, k.upstream), nil })
	if err != nil {
		return nil, err
	}
	return v.(*tracked), nil
}

// The bounds of a herd.
const (
	herdMax  = 4096
	herdIdle = time.Hour
)

// herd holds the circuits of upstreams that come and go: those of a dynamic
// source, and addresses with placeholders. Requests can bring new ones, so there
// is a largest number, and those not seen for an hour are forgotten.
type herd struct {
	policy string
	byDial atomic.Pointer[map[string]*tracked]
	mu     sync.Mutex // guards the replacement of byDial
}

func acquireHerd(policy string) (*herd, error) {
	v, _, err := pool.LoadOrNew(key{policy, changing}, func() (caddy.Destructor, error) {
		h := &herd{policy: policy}
		h.byDial.Store(&map[string]*tracked{})
		return h, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*herd), nil
}

// Destruct has nothing to end.
func (h *herd) Destruct() error { return nil }

// of returns the circuit of the upstream at dial, making it on first use.
func (h *herd) of(dial string, now time.Time) *tracked {
	t, ok := (*h.byDial.Load())[dial]
	if !ok {
		t = h.add(dial, now)
	}
	if s := now.Unix(); t.lastUsed.Load() != s {
		t.lastUsed.Store(s)
	}
	return t
}

func (h *herd) add(dial string, now time.Time) *tracked {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := *h.byDial.Load()
	if t, ok := old[dial]; ok {
		return t
	}
	next := maps.Clone(old)
	maps.DeleteFunc(next, func(_ string, t *tracked) bool {
		return now.Unix()-t.lastUsed.Load() > int64(herdIdle/time.Second)
	})
	if len(next) >= herdMax {
		var oldest *tracked
		for _, t := range next {
			if oldest == nil || t.lastUsed.Load() < oldest.lastUsed.Load() {
				oldest = t
			}
		}
		delete(next, oldest.upstream)
	}
	t := newTracked(key{h.policy, dial}, "dynamic")
	t.lastUsed.Store(now.Unix())
	next[dial] = t
	h.byDial.Store(&next)
	return t
}

// everyCircuit calls f with each circuit there is.
func everyCircuit(f func(*tracked)) {
	pool.Range(func(_, v any) bool {
		switch v := v.(type) {
		case *tracked:
			f(v)
		case *herd:
			for _, t := range *v.byDial.Load() {
				f(t)
			}
		}
		return true
	})
}
