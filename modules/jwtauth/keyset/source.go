package keyset

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Snapshot is the keys of one time. It is immutable.
type Snapshot struct {
	Keys []Key
	// Gen changes whenever the keys do.
	Gen uint64
	// Fetched is when the issuer last confirmed these keys.
	Fetched time.Time
	// Fresh is until when they need no refresh.
	Fresh time.Time
}

// Timing are the clocks of a Source.
type Timing struct {
	// Usual is for how long a set counts as fresh where the issuer does not
	// say; Least and Most bound what it says.
	Usual, Least, Most time.Duration
	// Interval is the least time between two fetches of a set that is known,
	// whoever asks for them.
	Interval time.Duration
	// Wait is how long a reader that misses a key waits for a fetch.
	Wait time.Duration
}

// NetworkTiming is for sets behind a URL, FileTiming for files.
var (
	NetworkTiming = Timing{
		Usual: 10 * time.Minute, Least: time.Minute, Most: time.Hour,
		Interval: 10 * time.Second, Wait: 2 * time.Second,
	}
	FileTiming = Timing{
		Usual: 2 * time.Second, Least: 2 * time.Second, Most: 2 * time.Second,
		Interval: time.Second, Wait: 2 * time.Second,
	}
)

// maxWaiters bounds the readers that wait for one fetch, because what they
// wait with is memory that a stranger made us spend.
const maxWaiters = 1024

// Source keeps one key set fresh. Readers take the current snapshot with an
// atomic load; one goroutine, which runs while anybody is attached, fetches.
type Source struct {
	name    string
	fetcher Fetcher
	timing  Timing
	current atomic.Pointer[Snapshot]
	first   chan struct{} // closed with the first snapshot
	wake    chan struct{}

	lifeMu   sync.Mutex // guards starting and stopping the goroutine
	attached []*attachment
	stop     context.CancelFunc
	done     chan struct{}

	mu       sync.Mutex    // guards what follows
	listener *attachment   // the newest
	began    time.Time     // of the latest fetch
	next     time.Time     // of the next scheduled one
	flight   chan struct{} // closed when the fetch under way or asked for ends
	asked    bool          // a reader waits for a fetch that may begin now
	hurry    bool          // a reader missed a key inside Interval
	waiting  int
	failures int
	stale    bool
	lastErr  error
	tag      string
	modified string
	body     []byte
}

// Attachment is what a configuration lends a Source while it runs.
type Attachment struct {
	// Store keeps the last good set. Nil keeps none.
	Store Store
	// Hear is told what happened, on the Source's goroutine. It must not block.
	Hear func(Event)
}

type attachment struct{ Attachment }

// New returns a Source that fetches with fetcher. Name tells its persisted
// sets from those of others.
func New(name string, fetcher Fetcher, timing Timing) *Source {
	return &Source{
		name: name, fetcher: fetcher, timing: timing,
		first: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// Static returns a Source of keys that never change.
func Static(keys []Key) *Source {
	s := New("", nil, Timing{})
	s.current.Store(&Snapshot{Keys: keys, Gen: 1})
	close(s.first)
	return s
}

// Current returns the latest snapshot, or nil before the first.
func (s *Source) Current() *Snapshot { return s.current.Load() }

// IsStatic says whether the keys come with the configuration.
func (s *Source) IsStatic() bool { return s.fetcher == nil }

// First is closed once there is a snapshot.
func (s *Source) First() <-chan struct{} { return s.first }

// LastError is why the latest fetch failed, nil if it did not.
func (s *Source) LastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

// Attach keeps the set fresh until the returned function is called. Of several
// attachments the newest is told what happens.
func (s *Source) Attach(a Attachment) (detach func()) {
	if s.IsStatic() {
		return func() {}
	}
	at := &attachment{a}
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	s.attached = append(s.attached, at)
	s.listenLocked()
	if len(s.attached) == 1 {
		ctx, cancel := context.WithCancel(context.Background())
		s.stop, s.done = cancel, make(chan struct{})
		go s.run(ctx, s.done)
	}
	return sync.OnceFunc(func() { s.detach(at) })
}

func (s *Source) detach(at *attachment) {
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	s.attached = slices.DeleteFunc(s.attached, func(o *attachment) bool { return o == at })
	s.listenLocked()
	if len(s.attached) == 0 {
		s.stop()
		<-s.done
	}
}

func (s *Source) listenLocked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = nil
	if n := len(s.attached); n > 0 {
		s.listener = s.attached[n-1]
	}
}

// ErrSuppressed says that a fetch was due too soon after the one before.
var ErrSuppressed = errors.New("another fetch is not due yet")

// Newer returns a snapshot with other keys than those of old, fetching it if
// that is due, and nil if there is none. It waits for a fetch for a bounded
// time, and not at all where the latest fetch is too recent: then the next one
// is brought forward.
func (s *Source) Newer(ctx context.Context, old *Snapshot) (*Snapshot, error) {
	if s.IsStatic() {
		return nil, nil
	}
	flight, err := s.ask(old)
	if err != nil {
		return nil, err
	}
	if flight != nil {
		defer s.leave()
		timeout := time.NewTimer(s.timing.Wait)
		defer timeout.Stop()
		select {
		case <-flight:
		case <-timeout.C:
		case <-ctx.Done():
		}
	}
	if now := s.Current(); now != nil && now.Gen != old.Gen {
		return now, nil
	}
	return nil, nil
}

// ask returns the fetch to wait for; nil where the keys are newer already.
func (s *Source) ask(old *Snapshot) (flight chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Current().Gen != old.Gen {
		return nil, nil
	}
	if s.flight == nil {
		if time.Since(s.began) < s.timing.Interval {
			if !s.hurry {
				s.hurry = true
				s.nudge()
			}
			return nil, ErrSuppressed
		}
		s.asked, s.flight = true, make(chan struct{})
		s.nudge()
	}
	if s.waiting == maxWaiters {
		return nil, ErrSuppressed
	}
	s.waiting++
	return s.flight, nil
}

func (s *Source) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
}

func (s *Source) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}
