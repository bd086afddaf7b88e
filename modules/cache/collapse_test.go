package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// crowd has n clients ask for the same at once and returns their answers.
func (k *kitchen) crowd(n int, fields ...string) []*guest {
	guests := make([]*guest, n)
	for i := range guests {
		guests[i] = k.seat("GET", "http://a.example/x", fields...)
	}
	synctest.Wait()
	return guests
}

// guest is a client on a goroutine of its own.
type guest struct {
	*httptest.ResponseRecorder
	leave context.CancelFunc
	done  chan struct{}
	err   error
	// aborted says that the answer was broken off.
	aborted bool
}

func (k *kitchen) seat(method, target string, fields ...string) *guest {
	return k.seatAt(nil, method, target, fields...)
}

// seatAt serves a guest on a writer of the test's own.
func (k *kitchen) seatAt(w http.ResponseWriter, method, target string, fields ...string) *guest {
	g := &guest{ResponseRecorder: httptest.NewRecorder(), done: make(chan struct{})}
	if w == nil {
		w = g.ResponseRecorder
	}
	r := request(w, method, target, fields...)
	ctx, cancel := context.WithCancel(r.Context())
	g.leave = cancel
	go func() {
		defer close(g.done)
		defer func() { g.aborted = recover() == http.ErrAbortHandler }()
		g.err = k.serve(w, r.WithContext(ctx))
	}()
	return g
}

func (g *guest) wait() *guest { <-g.done; return g }

// course is an origin's answer that the test serves piece by piece.
type course struct {
	header chan struct{}
	pieces chan string
	broken chan struct{}
}

func (k *kitchen) serves(fields ...string) *course {
	c := &course{make(chan struct{}), make(chan string), make(chan struct{})}
	k.origin = func(w http.ResponseWriter, r *http.Request) error {
		select {
		case <-c.header:
		case <-r.Context().Done():
			return caddyhttp.Error(499, r.Context().Err())
		}
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(200)
		for {
			select {
			case p, more := <-c.pieces:
				if !more {
					return nil
				}
				if _, err := io.WriteString(w, p); err != nil {
					panic(http.ErrAbortHandler)
				}
				_ = http.NewResponseController(w).Flush()
			case <-c.broken:
				panic(http.ErrAbortHandler)
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
	}
	return c
}

func TestRequestsForTheSameAreOneFetch(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		c := k.serves("Cache-Control: max-age=60")
		guests := k.crowd(50)
		k.expect(1, "49 wait for the first")
		close(c.header)
		c.pieces <- "one "
		synctest.Wait()
		for i, g := range guests {
			if g.Body.String() != "one " {
				t.Errorf("guest %d has %q while the answer comes in, want %q", i, g.Body, "one ")
			}
		}
		c.pieces <- "two"
		close(c.pieces)
		collapsed := 0
		for i, g := range guests {
			if g.wait(); g.err != nil || g.Body.String() != "one two" {
				t.Errorf("guest %d: %v, %q", i, g.err, g.Body)
			}
			if strings.Contains(g.Header().Get("Cache-Status"), "collapsed") {
				collapsed++
			}
		}
		if collapsed != 49 {
			t.Errorf("%d answers say collapsed, want 49", collapsed)
		}
		k.get()
		k.expect(1, "the answer was kept")
	})
}

func TestTheFetchOutlivesItsLeadersClient(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		c := k.serves("Cache-Control: max-age=60")
		guests := k.crowd(3)
		var leader *guest
		close(c.header)
		c.pieces <- "one "
		synctest.Wait()
		for _, g := range guests {
			if strings.Contains(g.Header().Get("Cache-Status"), "stored") {
				leader = g
			}
		}
		leader.leave()
		synctest.Wait()
		c.pieces <- "two"
		close(c.pieces)
		for _, g := range guests {
			if g.wait(); g != leader && g.Body.String() != "one two" {
				t.Errorf("a guest has %q after the leader left", g.Body)
			}
		}
		k.expect(1, "the others read on")
		k.get()
		k.expect(1, "the whole was kept")
	})
}

func TestAFetchThatNobodyWantsEnds(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		c := k.serves("Cache-Control: max-age=60")
		guests := k.crowd(3)
		close(c.header)
		c.pieces <- "one "
		synctest.Wait()
		for _, g := range guests {
			g.leave()
		}
		for _, g := range guests {
			g.wait() // the origin's context ended, or this would hang
		}
		k.answers(200, "whole", "Cache-Control: max-age=60")
		if w := k.get(); w.Body.String() != "whole" {
			t.Errorf("after an abort the answer is %q: a part was kept", w.Body)
		}
	})
}

func TestABrokenAnswerIsNobodysWhole(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		c := k.serves("Cache-Control: max-age=60")
		guests := k.crowd(5)
		close(c.header)
		c.pieces <- "half"
		synctest.Wait()
		close(c.broken)
		for i, g := range guests {
			if g.wait(); !g.aborted {
				t.Errorf("guest %d was not cut off: it takes half for all", i)
			}
		}
		k.answers(200, "whole", "Cache-Control: max-age=60")
		if w := k.get(); w.Body.String() != "whole" {
			t.Errorf("a broken answer was kept: %q", w.Body)
		}
	})
}

func TestAShortAnswerIsNotKept(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		k.answers(200, "half", "Cache-Control: max-age=60", "Content-Length: 8")
		k.get()
		k.get()
		k.expect(2, "4 bytes of 8 came in")
	})
}

func TestPrivateAnswersAreNotShared(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		release := make(chan struct{})
		var mu sync.Mutex
		served := 0
		k.origin = func(w http.ResponseWriter, r *http.Request) error {
			<-release
			mu.Lock()
			served++
			body := strings.Repeat("x", served)
			mu.Unlock()
			w.Header().Set("Cache-Control", "private, max-age=60")
			_, err := io.WriteString(w, body)
			return err
		}
		guests := k.crowd(10)
		k.expect(1, "nobody knows yet that it is private")
		close(release)
		bodies := make(map[string]bool)
		for _, g := range guests {
			bodies[g.wait().Body.String()] = true
		}
		k.expect(10, "each asks for itself")
		if len(bodies) != 10 {
			t.Errorf("10 guests got %d different answers: one was shared", len(bodies))
		}
		// For a while nobody waits in vain.
		release = make(chan struct{})
		k.crowd(5)
		k.expect(15, "answers to this key are known to be private")
		close(release)
		synctest.Wait()
	})
}

func TestAFailureIsShared(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		release := make(chan struct{})
		k.origin = func(http.ResponseWriter, *http.Request) error {
			<-release
			return caddyhttp.Error(502, errors.New("connection refused"))
		}
		guests := k.crowd(20)
		close(release)
		for i, g := range guests {
			he, ok := errors.AsType[caddyhttp.HandlerError](g.wait().err)
			if !ok || he.StatusCode != 502 {
				t.Errorf("guest %d got %v, want a 502", i, g.err)
			}
		}
		k.expect(1, "an upstream in trouble is not asked twenty times")
	})
}

func TestWaitersAreBounded(t *testing.T) {
	timed(t, `{"collapse":{"most":3,"timeout":5000000000}}`, func(t *testing.T, k *kitchen) {
		c := k.serves("Cache-Control: max-age=60")
		guests := k.crowd(10)
		k.expect(7, "one leads, three wait, six ask for themselves")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		k.expect(10, "nobody waits longer than the timeout")
		close(c.header)
		close(c.pieces)
		for _, g := range guests {
			g.wait()
		}
	})
}

// slowWriter is a client that takes its time over each write.
type slowWriter struct {
	*httptest.ResponseRecorder
	each time.Duration
}

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(w.each)
	return w.ResponseRecorder.Write(p)
}

func TestASlowLeaderHoldsNobodyUp(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		slow := &slowWriter{httptest.NewRecorder(), time.Hour}
		c := k.serves("Cache-Control: max-age=7200")
		leader := k.seatAt(slow, "GET", "http://a.example/x")
		synctest.Wait()
		reader := k.seat("GET", "http://a.example/x")
		synctest.Wait()
		began := time.Now()
		close(c.header)
		c.pieces <- "one " // the leader's client takes an hour over this
		time.Sleep(time.Hour)
		for range 5 {
			c.pieces <- "more "
		}
		close(c.pieces)
		reader.wait()
		if took := time.Since(began); took > time.Hour+time.Second {
			t.Errorf("the reader waited %v for another's slow client", took)
		}
		leader.wait()
		const want = "one more more more more more "
		if got := slow.Body.String(); got != want || reader.Body.String() != want {
			t.Errorf("leader has %q, reader %q, want %q", got, reader.Body, want)
		}
	})
}

func TestAnAnswerThatOutgrowsTheLimitIsHandedThrough(t *testing.T) {
	timed(t, `{"max_object":65536}`, func(t *testing.T, k *kitchen) {
		c := k.serves("Cache-Control: max-age=60")
		guests := k.crowd(3)
		close(c.header)
		piece := strings.Repeat("0123456789abcdef", 1024)
		for range 100 {
			c.pieces <- piece
		}
		close(c.pieces)
		for i, g := range guests {
			if g.wait(); g.aborted || g.Body.Len() != 100*len(piece) {
				t.Errorf("guest %d: aborted %t, %d bytes, want %d", i, g.aborted, g.Body.Len(), 100*len(piece))
			}
		}
		if n := k.h.larder.memory.Len(); n != 0 {
			t.Errorf("%d objects are kept, want none", n)
		}
		if spare := k.h.larder.spare.Load(); spare != defaultMemory/8 {
			t.Errorf("%d bytes are free for fetches, want all %d back", spare, defaultMemory/8)
		}
	})
}

func TestASlowLeaderOfALargeAnswerGetsAllOfIt(t *testing.T) {
	timed(t, `{"max_object":65536}`, func(t *testing.T, k *kitchen) {
		slow := &slowWriter{httptest.NewRecorder(), time.Second}
		c := k.serves("Cache-Control: max-age=60")
		leader := k.seatAt(slow, "GET", "http://a.example/x")
		synctest.Wait()
		reader := k.seat("GET", "http://a.example/x")
		synctest.Wait()
		close(c.header)
		var want strings.Builder
		for i := range 20 {
			piece := strings.Repeat(string(rune('a'+i)), 10_000)
			want.WriteString(piece)
			c.pieces <- piece
		}
		close(c.pieces)
		leader.wait()
		reader.wait()
		if slow.Body.String() != want.String() || reader.Body.String() != want.String() {
			t.Errorf("of %d bytes the leader has %d and the reader %d", want.Len(), slow.Body.Len(), reader.Body.Len())
		}
	})
}
