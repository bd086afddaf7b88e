package ratelimit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
)

// tables holds one table for each zone name. It outlives reloads, and two
// handlers that use one zone name count together. A table knows no settings:
// those come with each call, so a configuration that fails to load changes nothing.
var tables = caddy.NewUsagePool()

const shardCount = 64

// table remembers the keys of one zone.
type table struct {
	seed   maphash.Seed
	shards [shardCount]shard

	keysBudget, networksBudget allowance
	warned                     atomic.Uint64 // when the budget was last said to be used up
}

func newTable() (caddy.Destructor, error) {
	return &table{seed: maphash.MakeSeed()}, nil
}

// Destruct drops the table.
func (*table) Destruct() error { return nil }

// shard is a part of a table that locks alone. Entries lie in one slice, and a
// clock hand passes over it as new keys come in, so that expired entries are
// found without a goroutine and memory stays bounded under a scan of addresses.
type shard struct {
	mu    sync.Mutex // guards all below
	index map[string]int32
	slots []entry
	free  []int32
	hand  int
	_     [40]byte // keeps two shards off one cache line
}

// entry is what a table remembers of one key. Which fields count depends on the
// zone's algorithm.
type entry struct {
	key string
	// expires is when the entry says no more than a fresh one would.
	expires float64
	memo
	account *account // where Redis holds the truth
}

func (t *table) shard(key string) *shard {
	return &t.shards[maphash.String(t.seed, key)%shardCount]
}

// claimLocked returns the entry of key, making it where there is none. The
// pointer is good while the shard stays locked.
func (s *shard) claimLocked(key string, now float64, most int) *entry {
	if i, known := s.index[key]; known {
		return &s.slots[i]
	}
	s.sweepLocked(now)
	i := s.slotLocked(most)
	s.slots[i] = entry{key: key, memo: memo{tat: now}, expires: now}
	if s.index == nil {
		s.index = make(map[string]int32)
	}
	s.index[key] = i
	return &s.slots[i]
}

// sweepLocked moves the hand over two entries, so that of a crowd that has
// gone no more than half the slots stay taken.
func (s *shard) sweepLocked(now float64) {
	for range min(2, len(s.slots)) {
		s.hand = (s.hand + 1) % len(s.slots)
		if e := &s.slots[s.hand]; e.live() && e.expires <= now && (e.account == nil || e.account.idle()) {
			s.dropLocked(s.hand)
		}
	}
}

func (s *shard) slotLocked(most int) int32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	if len(s.slots) < max(most/shardCount, 1) {
		s.slots = append(s.slots, entry{})
		return int32(len(s.slots) - 1)
	}
	i := s.leastLocked()
	s.dropLocked(i)
	evictions.Inc()
	return s.slotLocked(most)
}

// leastLocked returns, of the next few entries, the one nearest to its expiry:
// the fullest bucket, whose loss forgives the least. A scan of addresses pushes
// out its own entries before those of callers near their limit.
func (s *shard) leastLocked() int {
	const look = 8
	best := -1
	for range min(look, len(s.slots)) {
		s.hand = (s.hand + 1) % len(s.slots)
		if a := s.slots[s.hand].account; a != nil && !a.idle() {
			continue
		}
		if best < 0 || s.slots[s.hand].expires < s.slots[best].expires {
			best = s.hand
		}
	}
	if best < 0 {
		// All have debts, which reach Redis without the entry.
		best = s.hand
	}
	return best
}

func (s *shard) dropLocked(i int) {
	delete(s.index, s.slots[i].key)
	s.slots[i] = entry{}
	s.free = append(s.free, int32(i))
}

// live says whether the slot is in use: a free one has no expiry, and instants
// are never zero.
func (e *entry) live() bool { return e.expires != 0 }

// keys counts the entries, expired ones that the hand has not met included.
func (t *table) keys() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.index)
		s.mu.Unlock()
	}
	return n
}
