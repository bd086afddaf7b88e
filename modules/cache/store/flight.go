package store

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// State is how far a flight is.
type State int

// The states. A flight is Pending until the header of the answer is known,
// then Open while the body comes in, then Landed; or it ends Failed, or Apart
// when the answer is for its leader alone.
const (
	Pending State = iota
	Open
	Landed
	Failed
	Apart
)

// Flights are the fetches under way, by what is fetched. Of the requests for
// one thing the first leads, on its own goroutine; the others wait and read
// what it brings while it brings it.
type Flights struct {
	seed   maphash.Seed
	shards [32]flightShard
	apart  [4096]atomic.Int64
}

type flightShard struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]*Flight
}

// NewFlights returns an empty table.
func NewFlights() *Flights {
	fs := &Flights{seed: maphash.MakeSeed()}
	for i := range fs.shards {
		fs.shards[i].byKey = make(map[string]*Flight)
	}
	return fs
}

// Flight is one fetch, and what it has brought so far.
type Flight struct {
	key   string
	shard *flightShard
	limit int64

	mu      sync.Mutex // guards all below
	state   State
	object  *Object
	chunks  [][]byte
	dropped int   // chunks no longer held, those before the first in chunks
	size    int64 // of all chunks
	held    int64 // of the chunks in hand
	readers []*Reader
	wake    chan struct{} // closed when anything changes; nil while nobody looks
	err     error
	brought bool   // nobody was asked: it lay elsewhere
	unkept  bool   // the body is handed through only
	lone    bool   // the leader's client has left
	abandon func() // ends the fetch
}

// Join returns the flight for key and whether the caller leads it. The leader
// must call End. A caller that does not lead gets a Reader, or nil where there
// are already most of them.
func (fs *Flights) Join(key string, most int, limit int64) (*Flight, *Reader, bool) {
	s := &fs.shards[maphash.String(fs.seed, key)%uint64(len(fs.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byKey[key]
	if f == nil {
		f = &Flight{key: key, shard: s, limit: limit}
		s.byKey[key] = f
		return f, nil, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) >= most || f.size > f.limit || f.unkept {
		return f, nil, false
	}
	rd := &Reader{flight: f}
	f.readers = append(f.readers, rd)
	return f, rd, false
}

// Alone returns a flight that nobody can join.
func Alone(limit int64) *Flight { return &Flight{limit: limit} }

// Apart says whether answers for key were lately found to be for one client
// each, so that waiting for another's is time lost.
func (fs *Flights) Apart(key string, now time.Time) bool {
	return fs.apart[fs.place(key)].Load() > now.UnixNano()
}

// SetApart notes it until then.
func (fs *Flights) SetApart(key string, until time.Time) {
	fs.apart[fs.place(key)].Store(until.UnixNano())
}

func (fs *Flights) place(key string) int {
	return int(maphash.String(fs.seed, key) % uint64(len(fs.apart)))
}

// Abandon has f called once neither the leader's client nor a reader wants
// the flight any more.
func (f *Flight) Abandon(g func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.abandon = g
}

// ClientLeft says that the leader's client is gone.
func (f *Flight) ClientLeft() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lone = true
	f.dropIfUnwantedLocked()
}

func (f *Flight) dropIfUnwantedLocked() {
	if f.lone && len(f.readers) == 0 && f.state <= Open && f.abandon != nil {
		f.abandon()
		f.abandon = nil
	}
}

// Open shows the header of the answer to the readers. Of o the body is not used.
func (f *Flight) Open(o *Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.object, f.state = o, Open
	f.tellLocked()
}

// Waited says whether somebody reads along.
func (f *Flight) Waited() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.readers) > 0
}

// Land ends the flight with the complete object, whose body the readers are
// to have in place of what was appended.
func (f *Flight) Land(o *Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.object, f.state = o, Landed
	f.tellLocked()
}

// Bring ends the flight with an object that was kept elsewhere, so that nobody
// had to be asked for it.
func (f *Flight) Bring(o *Object) {
	f.mu.Lock()
	f.brought = true
	f.mu.Unlock()
	f.Land(o)
	f.End(Landed, nil)
}

// End ends the flight: Landed if all came in, Failed with the reason, or Apart.
// Only the first end counts. Afterwards the next request for the key leads a
// flight of its own. A nil flight has nobody to tell.
func (f *Flight) End(s State, err error) {
	if f == nil {
		return
	}
	f.leave()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state <= Open {
		f.state, f.err = s, err
	}
	f.abandon = nil
	f.tellLocked()
}

// leave takes the flight off the table.
func (f *Flight) leave() {
	if f.shard == nil {
		return
	}
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.shard.byKey[f.key] == f {
		delete(f.shard.byKey, f.key)
	}
}

func (f *Flight) tellLocked() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

func (f *Flight) wakeLocked() chan struct{} {
	if f.wake == nil {
		f.wake = make(chan struct{})
	}
	return f.wake
}

// wait lets go of the lock until something changes or ctx ends.
func (f *Flight) waitLocked(ctx context.Context) error {
	wake := f.wakeLocked()
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
