package stage

import (
	"context"
	"fmt"
	"sync"
)

// journal keeps what it is given and wakes those who wait for more.
type journal[T any] struct {
	mu      sync.Mutex // guards the fields below
	entries []T
	more    chan struct{} // closed at the next entry; nil while nobody waits
}

func (j *journal[T]) add(entry T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
	if j.more != nil {
		close(j.more)
		j.more = nil
	}
}

// all returns the entries so far, and a channel that the next one closes.
func (j *journal[T]) all() ([]T, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.more == nil {
		j.more = make(chan struct{})
	}
	return j.entries[:len(j.entries):len(j.entries)], j.more
}

func (j *journal[T]) clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = nil
}

// await returns once holds says nil of the entries; if ctx ends before, it
// returns holds' last complaint.
func (j *journal[T]) await(ctx context.Context, holds func([]T) error) error {
	for {
		entries, more := j.all()
		err := holds(entries)
		if err == nil {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("%w (waited until %w)", err, ctx.Err())
		}
	}
}
