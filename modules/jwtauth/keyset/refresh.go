package keyset

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Event is something that happened to a Source.
type Event struct {
	Kind Kind
	// Snapshot is the current one, nil where there is none.
	Snapshot *Snapshot
	// Changed says that the keys are others than before.
	Changed bool
	// Skipped are the keys of the new document that are not used.
	Skipped []Skip
	// Err is why a fetch or the store failed.
	Err error
}

// Kind names an Event.
type Kind string

// The kinds of events.
const (
	Refreshed   Kind = "refreshed"    // a fetch confirmed or changed the keys
	Failed      Kind = "failed"       // a fetch brought nothing usable
	Stale       Kind = "stale"        // the keys are past their freshness, and the fetch failed
	Recovered   Kind = "recovered"    // the first success after Stale
	Restored    Kind = "restored"     // the keys come from the store
	StoreFailed Kind = "store_failed" // the store took or gave nothing
)

const (
	backoffLeast = time.Second
	backoffMost  = time.Minute
)

// run fetches until ctx ends.
func (s *Source) run(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	if s.Current() == nil {
		s.restore(ctx)
	}
	for s.sleep(ctx) {
		s.refresh(ctx)
	}
	// Nobody fetches any more: whoever waits need not.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.land()
}

// sleep waits until a fetch is due and says whether to go on.
func (s *Source) sleep(ctx context.Context) bool {
	for {
		due := time.NewTimer(time.Until(s.due()))
		select {
		case <-ctx.Done():
			due.Stop()
			return false
		case <-s.wake:
			due.Stop() // and see what is due now
			if s.wanted() {
				return true
			}
		case <-due.C:
			return true
		}
	}
}

func (s *Source) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *Source) due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if early := s.began.Add(s.timing.Interval); s.hurry && early.Before(s.next) {
		return early
	}
	return s.next
}

// refresh fetches once and makes the result current if it is any good.
func (s *Source) refresh(ctx context.Context) {
	s.mu.Lock()
	s.began, s.asked, s.hurry = time.Now(), false, false
	if s.flight == nil {
		s.flight = make(chan struct{})
	}
	tag, modified := s.tag, s.modified
	s.mu.Unlock()

	doc, err := s.fetcher.Fetch(ctx, tag, modified)
	if ctx.Err() != nil {
		return // stopped: that says nothing about the issuer
	}
	var keys []Key
	var skipped []Skip
	if err == nil && !doc.Same {
		if keys, skipped, err = Parse(doc.Body); err != nil {
			err = &FetchError{"parse", err}
			if errors.Is(err, errEmpty) {
				err = &FetchError{"empty", errEmpty}
			}
		}
	}
	if err == nil && doc.Same && s.Current() == nil {
		err = &FetchError{"status", errors.New("answer is 'not modified' to an unconditional request")}
	}
	if err != nil {
		s.fail(err)
		return
	}
	s.succeed(doc, keys, skipped)
	s.save(ctx)
}

func (s *Source) succeed(doc Document, keys []Key, skipped []Skip) {
	s.mu.Lock()
	now := time.Now()
	ttl := doc.TTL
	if ttl == 0 {
		ttl = s.timing.Usual
	}
	ttl = min(max(ttl, s.timing.Least), s.timing.Most)
	old := s.Current()
	snap := &Snapshot{Keys: keys, Gen: 1, Fetched: now, Fresh: now.Add(ttl)}
	changed := true
	if old != nil {
		snap.Gen = old.Gen
		if changed = !doc.Same && fingerprint(keys) != fingerprint(old.Keys); changed {
			snap.Gen++
		} else {
			snap.Keys = old.Keys // the same keys stay the same pointers
		}
	}
	if !doc.Same {
		s.body = doc.Body
	}
	s.tag, s.modified = doc.Tag, doc.Modified
	recovered := s.stale
	s.stale, s.failures, s.lastErr = false, 0, nil
	s.next = now.Add(jitter(ttl * 8 / 10))
	s.publish(snap)
	s.land()
	listener := s.listener
	s.mu.Unlock()

	listener.tell(Event{Kind: Refreshed, Snapshot: snap, Changed: changed, Skipped: skipped})
	if recovered {
		listener.tell(Event{Kind: Recovered, Snapshot: snap})
	}
}

// fail keeps the keys there are and tries again later: soon where there are
// none, because then every request waits for them.
func (s *Source) fail(err error) {
	s.mu.Lock()
	now, snap := time.Now(), s.Current()
	backoff := jitter(min(backoffLeast<<min(s.failures, 10), backoffMost))
	if snap != nil {
		backoff = max(backoff, s.timing.Interval)
	}
	s.failures++
	s.lastErr = err
	s.next = now.Add(backoff)
	turned := snap != nil && !s.stale && now.After(snap.Fresh)
	s.stale = s.stale || turned
	s.land()
	listener := s.listener
	s.mu.Unlock()

	listener.tell(Event{Kind: Failed, Snapshot: snap, Err: err})
	if turned {
		listener.tell(Event{Kind: Stale, Snapshot: snap, Err: err})
	}
}

// publish makes snap the current one. Needs mu.
func (s *Source) publish(snap *Snapshot) {
	if s.current.Swap(snap) == nil {
		close(s.first)
	}
}

// land ends the fetch that readers wait for. Needs mu.
func (s *Source) land() {
	if s.flight != nil {
		close(s.flight)
		s.flight = nil
	}
	s.asked = false
}

func (a *attachment) tell(e Event) {
	if a != nil && a.Hear != nil {
		a.Hear(e)
	}
}

// jitter spreads the gateways of a fleet by a tenth either way.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
