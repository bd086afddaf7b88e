package cache

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/cache/store"
)

// larders holds the stores by name and size. They outlive reloads and know no
// setting but their size, so a configuration that fails to load changes nothing.
var larders = caddy.NewUsagePool()

// larder is everything that handlers of one name share.
type larder struct {
	id, name string
	bound    int64
	memory   *store.Memory
	purges   *store.Purges
	flights  *store.Flights
	// spare is how many bytes of fetches under way may still be kept. What is
	// on its way in counts against the bound like what lies there.
	spare atomic.Int64
	// peers is how other gateways are told of purges; nil without Redis.
	peers atomic.Pointer[peers]
	// last is the id of the last order heard of a peer.
	last atomic.Pointer[string]
	// current says that every order from before was read.
	current atomic.Bool
}

func (l *larder) heard() string {
	if id := l.last.Load(); id != nil {
		return *id
	}
	return ""
}

func (l *larder) setHeard(id string) { l.last.Store(&id) }

func hold(name string, bound int64) (*larder, error) {
	id := name + "\n" + strconv.FormatInt(bound, 10)
	held, _, err := larders.LoadOrNew(id, func() (caddy.Destructor, error) {
		return newLarder(id, name, bound)
	})
	if err != nil {
		return nil, err
	}
	return held.(*larder), nil
}

func newLarder(id, name string, bound int64) (*larder, error) {
	gone := evictions.WithLabelValues(name)
	passing := bound / 8
	memory, err := store.NewMemory(bound-passing, func(uint32) { gone.Inc() })
	if err != nil {
		return nil, err
	}
	l := &larder{
		id: id, name: name, bound: bound,
		memory:  memory,
		purges:  store.NewPurges(slots(bound), time.Now().Add(-longestKept-time.Hour)),
		flights: store.NewFlights(),
	}
	l.spare.Store(passing)
	weights.add(name, l)
	return l, nil
}

// slots is one for each two KiB of the store, and a power of two.
func slots(bound int64) int {
	n := 1 << 12
	for int64(n) < bound/2048 && n < 1<<20 {
		n <<= 1
	}
	return n
}

// claim takes n bytes of what fetches under way may take.
func (l *larder) claim(n int64) bool {
	if l.spare.Add(-n) >= 0 {
		return true
	}
	l.spare.Add(n)
	return false
}

func (l *larder) unclaim(n int64) { l.spare.Add(n) }

func (l *larder) release() error {
	_, err := larders.Delete(l.id)
	return err
}

// Destruct ends the store.
func (l *larder) Destruct() error {
	weights.drop(l)
	l.memory.Close()
	return nil
}

var _ prometheus.Collector = (*gauge)(nil)
