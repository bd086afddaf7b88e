package audit

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Coalesce says when events that a client can provoke at will are summed up.
type Coalesce struct {
	// Off writes every event down, whatever the cost.
	Off bool `json:"off,omitempty"`
	// First is how many events of one kind, reason and client are written in
	// full within a window. Default: 10.
	First int `json:"first,omitempty"`
	// Window is the time in which they are counted. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`
}

// flood is one kind of event from one client within one window.
type flood struct {
	floodKey
	// first and last are those of the events summed up.
	first, last time.Time
	until       time.Time
	// seen counts all events, summed those that were not written in full.
	seen, summed int64
	// samples are the ids of the first that were.
	samples []string
}

// maxSamples is how many events of a flood its sum names.
const maxSamples = 3

type floodKey struct{ kind, code, client string }

// floods counts what repeats. It is bounded: clients beyond the bound share
// one count for each kind, so that rotating addresses do not help a flood.
type floods struct {
	shards [16]floodShard
}

type floodShard struct {
	mu sync.Mutex // guards m
	m  map[floodKey]*flood
}

const floodsPerShard = 256

var floodSeed = maphash.MakeSeed()

// swallow counts an event and says whether it is one too many.
func (f *floods) swallow(kind, code, client string, at time.Time, first int, window time.Duration) bool {
	key := floodKey{kind, code, client}
	s := f.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[key]
	if e == nil && len(s.m) >= floodsPerShard {
		key.client = ""
		e = s.m[key]
	}
	if e == nil {
		if s.m == nil {
			s.m = make(map[floodKey]*flood)
		}
		e = &flood{floodKey: key, until: at.Add(window)}
		s.m[key] = e
	}
	e.seen++
	if e.seen <= int64(first) {
		return false
	}
	if e.summed == 0 {
		e.first = at
	}
	e.summed++
	e.last = at
	return true
}

// sample notes the id of an event that was written in full.
func (f *floods) sample(kind, code, client string, id []byte) {
	key := floodKey{kind, code, client}
	s := f.shard(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[key]
	if e == nil {
		key.client = ""
		e = s.m[key]
	}
	if e != nil && len(e.samples) < maxSamples {
		e.samples = append(e.samples, string(id))
	}
}

func (f *floods) shard(client string) *floodShard {
	return &f.shards[maphash.String(floodSeed, client)%uint64(len(f.shards))]
}

// over takes out the windows that have ended; it returns those in which events
// were summed up.
func (f *floods) over(now time.Time) []flood {
	var list []flood
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		for k, e := range s.m {
			if now.Before(e.until) {
				continue
			}
			delete(s.m, k)
			if e.summed > 0 {
				list = append(list, *e)
			}
		}
		s.mu.Unlock()
	}
	return list
}
