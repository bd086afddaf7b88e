package board

import (
	"context"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

// Memory is the board of a gateway that stands alone. Even there two nodes meet:
// during a reload the old configuration and the new one.
type Memory struct {
	mu      sync.Mutex // guards what follows
	state   trial.State
	windows ledger
	holder  string
	fence   int64
	until   time.Time
}

// Look writes down what the node has seen and returns what is in force.
func (m *Memory) Look(_ context.Context, r *Report) (Sight, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Seq < r.Known {
		return Sight{}, ErrBehind
	}
	now := time.Now()
	if m.windows == nil {
		m.windows = make(ledger)
	}
	if r.Revision == m.state.Revision && !r.Window.Empty() {
		m.windows.at(now.Unix()).Add(&r.Window)
	}
	if m.holder != r.Node && now.After(m.until) {
		m.holder, m.fence = r.Node, m.fence+1
	}
	s := Sight{Now: now, State: m.state, upto: now.Unix()}
	if m.holder == r.Node {
		m.until = now.Add(lease)
		s.Fence, s.Windows = m.fence, m.windows.before(s.upto)
	}
	return s, nil
}

// Read returns what is in force.
func (m *Memory) Read(context.Context) (Sight, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Sight{Now: time.Now(), State: m.state}, nil
}

// Write puts next into force, which the node that decides made of what it saw.
func (m *Memory) Write(_ context.Context, node string, seen *Sight, next trial.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holder != node || m.fence != seen.Fence || m.state.Seq != seen.State.Seq || time.Now().After(m.until) {
		return ErrPassed
	}
	for second := range m.windows {
		if second < seen.upto || next.Revision != m.state.Revision {
			delete(m.windows, second)
		}
	}
	m.state = next
	return nil
}

// Order puts next into force, which any node made of what it read by order of an
// operator.
func (m *Memory) Order(_ context.Context, seen *Sight, next trial.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Seq != seen.State.Seq {
		return ErrPassed
	}
	if next.Revision != m.state.Revision {
		clear(m.windows)
	}
	m.state = next
	return nil
}

// Restore gives the board a state that it has lost.
func (m *Memory) Restore(_ context.Context, s trial.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Seq < s.Seq {
		m.state = s
		m.fence = max(m.fence, s.Fence) + 1
		m.holder, m.until = "", time.Time{}
	}
	return nil
}

// Leave gives the lease up, so that another node need not wait.
func (m *Memory) Leave(_ context.Context, node string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holder == node {
		m.holder, m.until = "", time.Time{}
	}
	return nil
}

// Destruct is called when no configuration uses the board any more.
func (*Memory) Destruct() error { return nil }
