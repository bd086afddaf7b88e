package ledger

import "slices"

// Change is a turn in what is known of a shard.
type Change struct {
	Shard string
	To    State
	// Cause is what the shard was given up for. Nil for every other turn.
	Cause error
}

// State is what a shard is good for.
type State string

// The states.
const (
	// Open says that the shard does not answer and is left alone.
	Open State = "open"
	// Closed says that it answers again.
	Closed State = "closed"
	// Slow says that it answers, but so often late that nobody waits who need not.
	Slow State = "slow"
	// Prompt says that it answers in time again.
	Prompt State = "prompt"
)

// Watch has hear called with every Change until stop is called. Of several
// watchers only the newest hears: during a reload two configurations overlap.
// Hear must not block.
func (l *Ledger) Watch(hear func(Change)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &hear
	l.watchers = append(l.watchers, w)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers = slices.DeleteFunc(l.watchers, func(o *func(Change)) bool { return o == w })
	}
}

// changed counts the turn and tells whoever watches.
func (l *Ledger) changed(c Change) {
	switch c.To {
	case Open:
		breakerState.WithLabelValues(c.Shard).Set(1)
	case Closed:
		breakerState.WithLabelValues(c.Shard).Set(0)
		l.recovered()
	case Slow:
		brownoutState.WithLabelValues(c.Shard).Set(1)
	case Prompt:
		brownoutState.WithLabelValues(c.Shard).Set(0)
	}
	l.mu.Lock()
	var hear func(Change)
	if n := len(l.watchers); n > 0 {
		hear = *l.watchers[n-1]
	}
	l.mu.Unlock()
	if hear != nil {
		hear(c)
	}
}
