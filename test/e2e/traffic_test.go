package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"time"
)

// A story's load is bounded in callers and in time.
const (
	trafficCallers = 4
	trafficLimit   = 30 * time.Second
)

// traffic is a load that runs while the story goes on.
type traffic struct {
	ended   chan struct{} // closed to end the callers
	once    sync.Once
	callers sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	tally    map[string]int
	answered int
	more     chan struct{} // closed at the next answer
}

const trafficForm = usage("traffic " + requestForm + " | traffic more N | traffic end")

// traffic starts a load and returns after its first answers, waits for more of
// them, or ends it; after the end `expect` knows how often each status came.
func (s *story) traffic(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "end" && s.load1 != nil:
		s.load1.stop()
		t := s.load1
		s.tally, s.load1 = t.tally, nil
		return nil
	case len(args) == 2 && args[0] == "more" && s.load1 != nil:
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return trafficForm
		}
		return s.load1.await(n)
	case s.load1 != nil:
		return trafficForm
	}
	c, err := s.parse(s.base(), args)
	if err != nil {
		return err
	}
	s.load1 = &traffic{ended: make(chan struct{}), tally: make(map[string]int), more: make(chan struct{})}
	deadline := time.Now().Add(trafficLimit)
	for range trafficCallers {
		s.load1.callers.Go(func() { s.load1.call(s, c, deadline) })
	}
	return s.load1.await(2 * trafficCallers)
}

func (t *traffic) call(s *story, c *call, deadline time.Time) {
	for time.Now().Before(deadline) {
		if ended(t) {
			return
		}
		a, err := s.send(c)
		t.count(a, err)
	}
}

// ended says whether the load is to end, when a refused connection is no news.
func ended(t *traffic) bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

func (t *traffic) count(a answer, err error) {
	key := strconv.Itoa(a.status)
	if err != nil {
		key = err.Error()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally[key]++
	t.answered++
	close(t.more)
	t.more = make(chan struct{})
}

// await waits for n more answers.
func (t *traffic) await(n int) error {
	t.mu.Lock()
	goal := t.answered + n
	t.mu.Unlock()
	timer := time.NewTimer(trafficLimit)
	defer timer.Stop()
	for {
		t.mu.Lock()
		answered, more := t.answered, t.more
		t.mu.Unlock()
		if answered >= goal {
			return nil
		}
		select {
		case <-more:
		case <-timer.C:
			return fmt.Errorf("%d answers after %s, want %d", answered, trafficLimit, goal)
		}
	}
}

func (t *traffic) stop() {
	t.once.Do(func() { close(t.ended) })
	t.callers.Wait()
}
