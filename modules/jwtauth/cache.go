package jwtauth

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// cache remembers verified tokens of one issuer. It is a table of small
// buckets that readers look through without a lock; a place is taken over by a
// newer token when its bucket is full or the bytes run out. It holds facts,
// never decisions: whoever finds a token here asks everything else again.
type cache struct {
	buckets []bucket
	mu      sync.Mutex // guards writing
	bytes   int        // of all entries; guarded by mu
	most    int        // what bytes may come to
	hand    int        // the next bucket to empty when they run out; guarded by mu
}

const (
	ways = 4
	// usualEntry is what the table is sized for: a token of 1 kB, its claims,
	// and what points at them.
	usualEntry = 2 << 10
	// maxCached bounds for how long a fact is remembered.
	maxCached = 5 * time.Minute
	// entryOverhead is what an entry takes beside the two texts.
	entryOverhead = int(unsafe.Sizeof(entry{})+unsafe.Sizeof(facts{})) + 640
)

type bucket [ways]atomic.Pointer[entry]

type entry struct {
	*facts
	hash  uint64
	until int64 // Unix milliseconds
	size  int
}

// newCache returns a cache that takes up to most bytes.
func newCache(most int) *cache {
	n := 1
	for n*ways*usualEntry < most {
		n *= 2
	}
	return &cache{buckets: make([]bucket, n), most: most}
}

var seed = maphash.MakeSeed()

// hashOf hashes the signature, the part of a token that nobody can choose
// without a key. It only finds the place: the whole token is compared there.
func hashOf(raw string) uint64 {
	return maphash.String(seed, raw[strings.LastIndexByte(raw, '.')+1:])
}

func (c *cache) get(raw string, now time.Time) *facts { return c.find(hashOf(raw), raw, now) }

func (c *cache) find(hash uint64, raw string, now time.Time) *facts {
	b := &c.buckets[hash&uint64(len(c.buckets)-1)]
	for w := range b {
		if e := b[w].Load(); e != nil && e.hash == hash && e.token.Raw() == raw {
			if e.until <= now.UnixMilli() {
				return nil
			}
			return e.facts
		}
	}
	return nil
}

// put remembers f until its token expires, or for as long as lasts.
func (c *cache) put(f *facts, now time.Time, lasts time.Duration) {
	raw := f.token.Raw()
	e := &entry{facts: f, hash: hashOf(raw), until: now.Add(lasts).UnixMilli()}
	e.size = len(raw) + len(f.token.Claims()) + entryOverhead
	if exp, ok := f.token.Expires(); ok {
		e.until = min(e.until, exp)
	}
	if e.size > c.most {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.buckets[e.hash&uint64(len(c.buckets)-1)]
	place := b.place(now.UnixMilli())
	c.replaceLocked(place, e)
	for c.bytes > c.most {
		c.sweepLocked(e)
	}
}

// place returns the entry to take over: an empty one, or the one that ends
// first.
func (b *bucket) place(now int64) *atomic.Pointer[entry] {
	best := &b[0]
	for w := range b {
		e := b[w].Load()
		if e == nil || e.until <= now {
			return &b[w]
		}
		if e.until < best.Load().until {
			best = &b[w]
		}
	}
	return best
}

func (c *cache) replaceLocked(place *atomic.Pointer[entry], next *entry) {
	if old := place.Load(); old != nil {
		c.bytes -= old.size
	}
	if next != nil {
		c.bytes += next.size
	}
	place.Store(next)
}

// sweepLocked empties one bucket but for keep.
func (c *cache) sweepLocked(keep *entry) {
	b := &c.buckets[c.hand]
	c.hand = (c.hand + 1) & (len(c.buckets) - 1)
	for w := range b {
		if e := b[w].Load(); e != nil && e != keep {
			c.replaceLocked(&b[w], nil)
		}
	}
}

// cached returns what is known about raw and still holds: the keys are those
// it was verified with, and not too old.
func (i *Issuer) cached(hash uint64, raw string, now time.Time) *facts {
	if i.cache == nil {
		return nil
	}
	f := i.cache.find(hash, raw, now)
	if f == nil {
		i.count.cacheMiss.Inc()
		return nil
	}
	r, _, err := i.keysAt(now)
	if err != nil || r.gen != f.gen {
		i.count.cacheMiss.Inc()
		return nil
	}
	i.count.cacheHit.Inc()
	return f
}

// guesses is how many tokens of a route of several issuers are known by the
// issuer that had them last. Others are looked for with each of them.
const guesses = 4096

// known finds raw among the verified tokens of the route's issuers.
func (h *Handler) known(raw string, now time.Time) (*facts, *Issuer) {
	hash, first := hashOf(raw), 0
	var guess *atomic.Uint32
	if h.guesses != nil {
		guess = &h.guesses[hash%uint64(len(h.guesses))]
		first = int(guess.Load())
	}
	for n := range h.issuers {
		at := (first + n) % len(h.issuers)
		i := h.issuers[at]
		if f := i.cached(hash, raw, now); f != nil {
			if n > 0 {
				guess.Store(uint32(at))
			}
			return f, i
		}
	}
	return nil, nil
}

// remember keeps f, unless verifying costs less than looking it up.
func (i *Issuer) remember(f *facts, now time.Time) {
	if i.cache != nil {
		f.token.Keep()
		i.cache.put(f, now, maxCached)
	}
}
