package keyset

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// idp is an issuer whose behaviour a test switches.
type idp struct {
	mu      sync.Mutex
	body    []byte
	ttl     time.Duration
	err     error
	delay   time.Duration
	fetches []time.Time
}

func (i *idp) Fetch(ctx context.Context, tag, _ string) (Document, error) {
	i.mu.Lock()
	i.fetches = append(i.fetches, time.Now())
	d, err, delay := Document{Body: i.body, Tag: string(i.body), TTL: i.ttl}, i.err, i.delay
	i.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return d, ctx.Err()
		}
	}
	d.Same = tag == d.Tag && tag != ""
	return d, err
}

func (i *idp) set(change func(*idp)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

func (i *idp) times() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.fetches)
}

func (i *idp) count() int { return len(i.times()) }

// shelf is a Store in memory.
type shelf struct {
	mu   sync.Mutex
	text map[string][]byte
}

func (s *shelf) Load(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text[name], nil
}

func (s *shelf) Save(_ context.Context, name string, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text == nil {
		s.text = map[string][]byte{}
	}
	s.text[name] = text
	return nil
}

var first, second = sync.OnceValue(document1), sync.OnceValue(document2)

func document1() []byte { return jwks("first") }
func document2() []byte { return jwks("second") }

func jwks(kid string) []byte {
	k, err := mint.Generate("EdDSA", kid)
	if err != nil {
		panic(err)
	}
	return mint.JWKS(k)
}

// attached runs test inside a bubble with a Source that is attached.
func attached(t *testing.T, i *idp, test func(t *testing.T, s *Source, events func() []Kind)) {
	t.Helper()
	first() // keys are made outside the bubble
	second()
	synctest.Test(t, func(t *testing.T) {
		s := New("test", i, NetworkTiming)
		var mu sync.Mutex
		var events []Kind
		detach := s.Attach(Attachment{Store: new(shelf), Hear: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e.Kind)
		}})
		defer detach()
		synctest.Wait()
		test(t, s, func() []Kind {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(events)
		})
	})
}

func kid(s *Source) string {
	if snap := s.Current(); snap != nil {
		return snap.Keys[0].ID
	}
	return ""
}

func TestRefreshAtFourFifths(t *testing.T) {
	i := &idp{body: first(), ttl: 10 * time.Minute}
	attached(t, i, func(t *testing.T, s *Source, _ func() []Kind) {
		time.Sleep(7 * time.Minute)
		if n := i.count(); n != 1 {
			t.Errorf("%d fetches before 8 minutes less a tenth, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := i.count(); n != 2 {
			t.Errorf("%d fetches after 9 minutes, want 2", n)
		}
	})
}

func TestFreshnessIsClamped(t *testing.T) {
	for name, c := range map[string]struct {
		ttl         time.Duration
		least, most time.Duration
	}{
		"a second": {time.Second, time.Minute, time.Minute},
		"a year":   {365 * 24 * time.Hour, time.Hour, time.Hour},
		"unsaid":   {0, 10 * time.Minute, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			attached(t, &idp{body: first(), ttl: c.ttl}, func(t *testing.T, s *Source, _ func() []Kind) {
				snap := s.Current()
				if got := snap.Fresh.Sub(snap.Fetched); got < c.least || got > c.most {
					t.Errorf("fresh for %s, want %s to %s", got, c.least, c.most)
				}
			})
		})
	}
}

// An issuer that is down, hung, empty or mad for a long time takes no key away.
func TestLastGoodSetStays(t *testing.T) {
	for name, change := range map[string]func(*idp){
		"errors":        func(i *idp) { i.err = &FetchError{"status", &StatusError{500}} },
		"hung":          func(i *idp) { i.delay, i.err = 5*time.Second, &FetchError{"timeout", context.DeadlineExceeded} },
		"empty":         func(i *idp) { i.body = []byte(`{"keys":[]}`) },
		"null":          func(i *idp) { i.body = []byte(`{"keys":null}`) },
		"garbage":       func(i *idp) { i.body = []byte(`<html>`) },
		"no usable key": func(i *idp) { i.body = []byte(`{"keys":[{"kty":"AKP"}]}`) },
	} {
		t.Run(name, func(t *testing.T) {
			i := &idp{body: first()}
			attached(t, i, func(t *testing.T, s *Source, events func() []Kind) {
				i.set(change)
				for range 36 {
					time.Sleep(10 * time.Minute)
					if kid(s) != "first" {
						t.Fatal("the last good set is gone")
					}
				}
				synctest.Wait()
				if n := i.count(); n < 300 || n > 450 {
					t.Errorf("%d fetches in 6 hours of outage, want about one a minute", n)
				}
				i.set(func(i *idp) { i.body, i.err, i.delay = second(), nil, 0 })
				time.Sleep(70 * time.Second)
				synctest.Wait()
				if kid(s) != "second" {
					t.Error("the issuer is back, its new key is not seen")
				}
				if n := countOf(events(), Stale); n != 1 {
					t.Errorf("stale was told %d times, want once", n)
				}
				if n := countOf(events(), Recovered); n != 1 {
					t.Errorf("recovered was told %d times, want once", n)
				}
			})
		})
	}
}

func countOf(events []Kind, want Kind) (n int) {
	for _, k := range events {
		if k == want {
			n++
		}
	}
	return n
}

func TestColdStartRetriesSoon(t *testing.T) {
	i := &idp{err: &FetchError{"dial", errors.New("refused")}}
	attached(t, i, func(t *testing.T, s *Source, _ func() []Kind) {
		time.Sleep(8 * time.Second)
		if n := i.count(); n < 3 || n > 5 {
			t.Errorf("%d fetches in 8 s without any key, want 3 to 5", n)
		}
		i.set(func(i *idp) { i.body, i.err = first(), nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if kid(s) != "first" {
			t.Error("no key although the issuer is up")
		}
	})
}

// Whatever number of readers misses a key, there is one fetch in ten seconds.
func TestFloodOfUnknownKeys(t *testing.T) {
	i := &idp{body: first()}
	attached(t, i, func(t *testing.T, s *Source, _ func() []Kind) {
		old := s.Current()
		began := time.Now()
		for time.Since(began) < time.Minute {
			for range 20 {
				snap, err := s.Newer(t.Context(), old)
				if snap != nil {
					t.Fatal("the keys are the same, yet Newer returns them")
				}
				_ = err
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := i.count(); n > 7 {
			t.Errorf("%d fetches in 60 s, want at most 7", n)
		}
		for n, fetches := 1, i.times(); n < len(fetches); n++ {
			if gap := fetches[n].Sub(fetches[n-1]); gap < 10*time.Second {
				t.Errorf("fetch %d follows after %s", n, gap)
			}
		}
	})
}

func TestRotatedKeyIsFetchedOnDemand(t *testing.T) {
	i := &idp{body: first()}
	attached(t, i, func(t *testing.T, s *Source, _ func() []Kind) {
		time.Sleep(time.Minute)
		old := s.Current()
		i.set(func(i *idp) { i.body, i.delay = second(), 300*time.Millisecond })
		began := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				snap, err := s.Newer(t.Context(), old)
				if err != nil || snap == nil || snap.Keys[0].ID != "second" {
					t.Errorf("got %v, %v; want the new key", snap, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("waited %s, want as long as the fetch takes", took)
		}
		if n := i.count(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

// A key that is missed right after a fetch brings the next fetch forward.
func TestMissInsideTheIntervalIsNotForgotten(t *testing.T) {
	i := &idp{body: first()}
	attached(t, i, func(t *testing.T, s *Source, _ func() []Kind) {
		time.Sleep(time.Second)
		i.set(func(i *idp) { i.body = second() })
		if _, err := s.Newer(t.Context(), s.Current()); !errors.Is(err, ErrSuppressed) {
			t.Errorf("got %v, want %v", err, ErrSuppressed)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if kid(s) != "second" {
			t.Error("the missed key was not fetched when it was due")
		}
	})
}

func TestWaitForHungIssuerIsBounded(t *testing.T) {
	i := &idp{body: first()}
	attached(t, i, func(t *testing.T, s *Source, _ func() []Kind) {
		time.Sleep(time.Minute)
		i.set(func(i *idp) { i.delay = 5 * time.Second })
		began := time.Now()
		if snap, err := s.Newer(t.Context(), s.Current()); snap != nil || err != nil {
			t.Errorf("got %v, %v", snap, err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("waited %s, want 2s", took)
		}
	})
}

func TestRestoredSetServesWhileTheIssuerIsDown(t *testing.T) {
	first()
	synctest.Test(t, func(t *testing.T) {
		kept := new(shelf)
		up := New("test", &idp{body: first()}, NetworkTiming)
		detach := up.Attach(Attachment{Store: kept})
		synctest.Wait()
		fetched := up.Current().Fetched
		detach()

		time.Sleep(time.Hour)
		down := &idp{err: &FetchError{"dial", errors.New("refused")}}
		s := New("test", down, NetworkTiming)
		var kinds []Kind
		detach = s.Attach(Attachment{Store: kept, Hear: func(e Event) { kinds = append(kinds, e.Kind) }})
		synctest.Wait()
		if kid(s) != "first" || !s.Current().Fetched.Equal(fetched) {
			t.Errorf("restored %v, want the set of %s", s.Current(), fetched)
		}
		detach()
		if len(kinds) != 3 || kinds[0] != Restored || kinds[2] != Stale {
			t.Errorf("events %v", kinds)
		}

		other := New("another url", down, NetworkTiming)
		detach = other.Attach(Attachment{Store: kept})
		synctest.Wait()
		if other.Current() != nil {
			t.Error("the set of another source is used")
		}
		detach()
	})
}

func TestRemovedKeyDiesWithTheRefresh(t *testing.T) {
	i := &idp{body: first()}
	attached(t, i, func(t *testing.T, s *Source, _ func() []Kind) {
		gen := s.Current().Gen
		i.set(func(i *idp) { i.body = second() })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if snap := s.Current(); snap.Gen == gen || len(snap.Keys) != 1 || snap.Keys[0].ID != "second" {
			t.Errorf("keys %v of generation %d", snap.Keys, snap.Gen)
		}
	})
}

// Two configurations overlap during a reload: the goroutine runs on, and the
// newest is told.
func TestAttachmentsOverlap(t *testing.T) {
	i := &idp{body: first()}
	attached(t, i, func(t *testing.T, s *Source, events func() []Kind) {
		var newer atomic.Int32
		before := len(events())
		detach := s.Attach(Attachment{Hear: func(Event) { newer.Add(1) }})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		detach()
		if newer.Load() == 0 || len(events()) != before {
			t.Errorf("the newest heard %d events, the older %v", newer.Load(), events()[before:])
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(events()) == before {
			t.Error("after the newest left, the older one hears nothing")
		}
	})
}
