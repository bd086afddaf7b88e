package store

import (
	"iter"
	"math"
	"slices"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
)

// Memory keeps objects in memory, by key and variant, and lets go of those
// that are least likely to be asked for again when they weigh too much
// (W-TinyLFU). A scan of keys that come once pushes out little else.
type Memory struct {
	cache *otter.Cache[string, []*Object]
	count *tally
}

// tally counts evictions.
type tally struct {
	stats.Recorder
	evicted func(weight uint32)
}

func (t *tally) RecordEviction(weight uint32) { t.evicted(weight) }

// NewMemory returns a store of at most bound bytes. Evicted hears of each
// entry that had to go.
func NewMemory(bound int64, evicted func(weight uint32)) (*Memory, error) {
	t := &tally{Recorder: &stats.NoopRecorder{}, evicted: evicted}
	cache, err := otter.New(&otter.Options[string, []*Object]{
		MaximumWeight: uint64(bound),
		Weigher:       weigh,
		StatsRecorder: t,
	})
	if err != nil {
		return nil, err
	}
	return &Memory{cache: cache, count: t}, nil
}

func weigh(_ string, variants []*Object) uint32 {
	var n int64
	for _, o := range variants {
		n += o.Weight()
	}
	return uint32(min(n, math.MaxUint32))
}

// Get returns the variants kept under key, newest first. The slice must not
// be changed.
func (m *Memory) Get(key string) []*Object {
	variants, _ := m.cache.GetIfPresent(key)
	return variants
}

// Put keeps o, in place of the variant that the same requests select. Of more
// than most variants of one key the oldest goes.
func (m *Memory) Put(o *Object, most int) {
	m.cache.Compute(o.Key, func(old []*Object, _ bool) ([]*Object, otter.ComputeOp) {
		variants := make([]*Object, 1, len(old)+1)
		variants[0] = o
		for _, v := range old {
			if len(variants) < most && !(v.Selected == o.Selected && slices.Equal(v.Vary, o.Vary)) {
				variants = append(variants, v)
			}
		}
		return variants, otter.WriteOp
	})
}

// Swap puts fresh in the place of old, if old is still there.
func (m *Memory) Swap(old, fresh *Object) {
	m.cache.ComputeIfPresent(old.Key, func(variants []*Object) ([]*Object, otter.ComputeOp) {
		i := slices.Index(variants, old)
		if i < 0 {
			return nil, otter.CancelOp
		}
		variants = slices.Delete(slices.Clone(variants), i, i+1)
		return slices.Insert(variants, 0, fresh), otter.WriteOp
	})
}

// Remove removes o, if it is still there.
func (m *Memory) Remove(o *Object) {
	m.cache.ComputeIfPresent(o.Key, func(variants []*Object) ([]*Object, otter.ComputeOp) {
		left := slices.DeleteFunc(slices.Clone(variants), func(v *Object) bool { return v == o })
		if len(left) == 0 {
			return nil, otter.InvalidateOp
		}
		return left, otter.WriteOp
	})
}

// Drop removes the objects that match says so of, and returns how many.
func (m *Memory) Drop(match func(*Object) bool) (dropped int) {
	for key, variants := range m.cache.All() {
		if !slices.ContainsFunc(variants, match) {
			continue
		}
		m.cache.ComputeIfPresent(key, func(variants []*Object) ([]*Object, otter.ComputeOp) {
			left := slices.DeleteFunc(slices.Clone(variants), match)
			dropped += len(variants) - len(left)
			if len(left) == 0 {
				return nil, otter.InvalidateOp
			}
			return left, otter.WriteOp
		})
	}
	return dropped
}

// All walks over the objects, in no order.
func (m *Memory) All() iter.Seq[*Object] {
	return func(yield func(*Object) bool) {
		for _, variants := range m.cache.All() {
			for _, o := range variants {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// Settle finishes what the store has put off, so that its weight is exact.
func (m *Memory) Settle() { m.cache.CleanUp() }

// Weight and Len say how full the store is.
func (m *Memory) Weight() int64 { return int64(m.cache.WeightedSize()) }

// Len returns the number of keys.
func (m *Memory) Len() int { return m.cache.EstimatedSize() }

// Close ends the store.
func (m *Memory) Close() {
	m.cache.InvalidateAll()
	m.cache.StopAllGoroutines()
}
