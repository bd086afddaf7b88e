package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/board"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

// meeting is where the nodes meet: in memory, or in Redis.
type meeting interface {
	Look(context.Context, *board.Report) (board.Sight, error)
	Read(context.Context) (board.Sight, error)
	Write(ctx context.Context, node string, seen *board.Sight, next trial.State) error
	Order(context.Context, *board.Sight, trial.State) error
	Restore(context.Context, trial.State) error
	Leave(ctx context.Context, node string) error
}

// conductor keeps one node in step with the others. While the board cannot be
// reached, what is known stays in force and nobody decides.
type conductor struct {
	board meeting
	plan  *trial.Plan
	node  string
	tally *trial.Tally

	// enact puts the share of a state into force; tell makes a change known;
	// keep persists a state.
	enact func(trial.State) error
	tell  func(trial.Change)
	keep  func(trial.State) error

	mu      sync.Mutex // guards what follows, and that one thing is done at a time
	known   trial.State
	leads   bool
	enacted int64 // the revision whose share is in force here
	kept    time.Time
	wrote   time.Time // the last change in the state that is kept
}

const (
	// beat is how often the nodes look at the board.
	beat = time.Second
	// trip is how long one may take.
	trip = 2 * time.Second
	// keepEvery is how old the kept state may be while nothing but counts changes.
	keepEvery = 10 * time.Second
)

// run looks at the board every second until ctx ends, and then gives the lease up.
func (c *conductor) run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		if err := c.step(ctx); ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			c.leave()
			return
		case <-tick.C:
		}
	}
}

// remember is told what an earlier process knew. Only what the board has lost is
// taken from it.
func (c *conductor) remember(s trial.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = s
}

// leave is bounded: a board that does not answer waits for the lease to pass.
func (c *conductor) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), trip)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leads {
		_ = c.board.Leave(ctx, c.node)
	}
	if c.known.Seq > 0 {
		_ = c.keep(c.known)
	}
}

// step reports, reads, and decides where it is this node's turn.
func (c *conductor) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trip)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	// What cannot be reported is given up: less is known then, but nothing wrong.
	// Sent again after an ambiguous error it might count twice.
	report := &board.Report{Node: c.node, Known: c.known.Seq, Revision: c.known.Revision, Window: c.tally.Take()}
	if c.known.Ended() {
		report.Window = trial.Window{} // nobody would take it into account
	}
	seen, err := c.board.Look(ctx, report)
	if errors.Is(err, board.ErrBehind) {
		if err = c.board.Restore(ctx, c.known); err == nil {
			seen, err = c.board.Look(ctx, report)
		}
	}
	if err != nil {
		c.leads = false
		return err
	}
	c.leads = seen.Fence > 0
	if err := c.adopt(seen.State); err != nil {
		return err
	}
	if !c.leads {
		return nil
	}
	return c.decide(ctx, &seen)
}

// decide makes the next state and writes it. A change is made known once it is
// written down, by whoever decides then, and marked: so it is told though its
// author die, at the price of once more if the teller does.
func (c *conductor) decide(ctx context.Context, seen *board.Sight) error {
	var next trial.State
	if seen.State.Seq == 0 {
		next, _ = trial.Begin(c.plan, seen.Now)
	} else {
		var untold []trial.Change
		next, untold = seen.State.Told()
		if len(untold) == 0 && seen.State.Ended() {
			return nil
		}
		for _, change := range untold {
			c.tell(change)
		}
		next, _ = trial.Advance(next, c.plan, seen.Now, seen.Windows)
	}
	if err := c.board.Write(ctx, c.node, seen, next); errors.Is(err, board.ErrPassed) {
		return nil // an order came between, or the lease has passed; the next look shows
	} else if err != nil {
		return err
	}
	return c.adopt(next)
}

// adopt puts a state into force here.
func (c *conductor) adopt(s trial.State) error {
	if len(s.History) == 0 { // there is none yet
		return nil
	}
	c.known = s
	if c.enacted != s.Revision {
		if err := c.enact(s); err != nil {
			return fmt.Errorf("put the share into force: %w", err)
		}
		c.enacted = s.Revision
	}
	changed := s.History[len(s.History)-1].At
	if changed.Equal(c.wrote) && time.Since(c.kept) < keepEvery {
		return nil
	}
	if err := c.keep(s); err != nil {
		return fmt.Errorf("keep the state: %w", err)
	}
	c.kept, c.wrote = time.Now(), changed
	return nil
}

// errRefused is an order that cannot be carried out as things stand.
type errRefused struct{ error }

// obey carries out an order, whichever node decides.
func (c *conductor) obey(ctx context.Context, o trial.Order) (trial.State, error) {
	ctx, cancel := context.WithTimeout(ctx, trip)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		seen, err := c.board.Read(ctx)
		if err != nil {
			return trial.State{}, err
		}
		if seen.State.Seq == 0 {
			return trial.State{}, errRefused{errors.New("the rollout has not begun yet; try again in a second")}
		}
		next, told, err := trial.Obey(seen.State, c.plan, seen.Now, o)
		if err != nil {
			return trial.State{}, errRefused{err}
		}
		switch err := c.board.Order(ctx, &seen, next); {
		case errors.Is(err, board.ErrPassed):
			continue // somebody decided in between: look again
		case err != nil:
			return trial.State{}, err
		}
		for _, change := range told {
			c.tell(change)
		}
		return next, c.adopt(next)
	}
}

// view is what this node knows.
func (c *conductor) view() (s trial.State, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s = c.known
	s.History = slices.Clone(s.History)
	return s, c.leads
}
