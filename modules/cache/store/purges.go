package store

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Purges remembers what was struck and when. An object that was asked for
// before the strike is struck, also when it arrives in a store after it: so a
// purge needs no lock that a fetch under way would have to hold.
//
// URLs and tags are remembered by hash in a table of fixed size. Two that fall
// together are struck together, which costs a fetch and never serves what was
// purged.
type Purges struct {
	base  time.Time
	seed  maphash.Seed
	slots []slot

	mu sync.Mutex // guards writes of sweeps
	// sweeps are the strikes that name no single URL or tag.
	sweeps atomic.Pointer[[]sweep]
}

// slot holds instants, in nanoseconds since base; zero is never.
type slot struct{ wanted, gone, stale atomic.Int64 }

type sweep struct {
	prefix string // of a key; the empty one strikes everything
	at     int64
	soft   bool
}

// Verdict is what the purges say of an object.
type Verdict int

// The verdicts, the worse the greater.
const (
	Good Verdict = iota
	// Stale objects may be used where stale ones may.
	Stale
	// Gone objects must not be used.
	Gone
)

const mostSweeps = 512

// NewPurges returns a table of n slots, a power of two. Instants count from base.
func NewPurges(n int, base time.Time) *Purges {
	p := &Purges{base: base, seed: maphash.MakeSeed(), slots: make([]slot, n)}
	p.sweeps.Store(new([]sweep))
	return p
}

func (p *Purges) instant(t time.Time) int64 { return max(0, int64(t.Sub(p.base))) + 1 }

func (p *Purges) slot(kind, name string) *slot {
	var h maphash.Hash
	h.SetSeed(p.seed)
	_, _ = h.WriteString(kind)
	_, _ = h.WriteString(name)
	return &p.slots[h.Sum64()&uint64(len(p.slots)-1)]
}

const (
	byURL = "u"
	byTag = "t"
)

// Want notes that an answer for url is about to be fetched, so that Touch
// knows which URLs matter.
func (p *Purges) Want(url string, now time.Time) {
	raise(&p.slot(byURL, url).wanted, p.instant(now))
}

// Touch strikes url if an answer for it may be kept or on its way. It is for
// writes, which come in any number: those to URLs that nobody reads leave no trace.
func (p *Purges) Touch(url string, now time.Time) bool {
	s := p.slot(byURL, url)
	if s.wanted.Load() == 0 || s.gone.Load() > s.wanted.Load() {
		return false
	}
	raise(&s.gone, p.instant(now))
	return true
}

// URL strikes every object of url.
func (p *Purges) URL(url string, now time.Time, soft bool) { p.strike(byURL, url, now, soft) }

// Tag strikes every object that carries tag.
func (p *Purges) Tag(tag string, now time.Time, soft bool) { p.strike(byTag, tag, now, soft) }

func (p *Purges) strike(kind, name string, now time.Time, soft bool) {
	s := p.slot(kind, name)
	if soft {
		raise(&s.stale, p.instant(now))
	} else {
		raise(&s.gone, p.instant(now))
	}
}

// Prefix strikes every object whose key begins with prefix, all for the empty
// one. When there are very many, the oldest two become one that strikes both
// and more.
func (p *Purges) Prefix(prefix string, now time.Time, soft bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := sweep{prefix, p.instant(now), soft}
	list := slices.Clone(*p.sweeps.Load())
	list = slices.DeleteFunc(list, func(s sweep) bool {
		return strings.HasPrefix(s.prefix, prefix) && (s.soft || !soft)
	})
	if len(list) >= mostSweeps {
		merged := sweep{"", list[1].at, false}
		list = append([]sweep{merged}, list[2:]...)
	}
	list = append(list, fresh)
	p.sweeps.Store(&list)
}

// Judge says whether o was struck.
func (p *Purges) Judge(o *Object) Verdict {
	asked := p.instant(o.Requested)
	v := p.slot(byURL, o.URL).judge(asked)
	for _, t := range o.Tags {
		v = max(v, p.slot(byTag, t).judge(asked))
	}
	for _, s := range *p.sweeps.Load() {
		if s.at < asked || !strings.HasPrefix(o.Key, s.prefix) {
			continue
		}
		if s.soft {
			v = max(v, Stale)
		} else {
			v = Gone
		}
	}
	return v
}

func (s *slot) judge(asked int64) Verdict {
	switch {
	case s.gone.Load() >= asked:
		return Gone
	case s.stale.Load() >= asked:
		return Stale
	}
	return Good
}

// raise never lowers: two strikes may come in either order.
func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}
