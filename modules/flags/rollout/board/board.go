// Package board is where the nodes of a rollout meet: they write down what they
// have seen, read what is in force, and find out which of them decides.
package board

import (
	"errors"
	"slices"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

// Sight is what a node finds on the board.
type Sight struct {
	// Now is the board's own time, the same for every node.
	Now time.Time
	// State is what is in force; its Seq is zero where nothing is yet.
	State trial.State
	// Fence is the token of this node's lease, or zero: then another one decides.
	Fence int64
	// Windows are those that are closed and that nobody has taken into account,
	// the oldest first. Only the node that decides gets them.
	Windows []trial.Window

	upto int64 // the second before which windows are closed
}

// Report is what a node has seen since its last look.
type Report struct {
	// Node names the node, newly for each start.
	Node string
	// Known is the Seq of the state that the node knows.
	Known int64
	// Revision is the one under which Window was counted.
	Revision int64
	Window   trial.Window
}

// lease is how long a node decides after its last look. The others wait so long
// when it dies.
const lease = 4 * time.Second

var (
	// ErrBehind says that the board knows less than the node: it has lost
	// something, and the node is to Restore it.
	ErrBehind = errors.New("the board has lost its state")
	// ErrPassed says that a write came too late: another node holds the lease,
	// or the state has changed since it was read. Nothing was written.
	ErrPassed = errors.New("the lease has passed, or the state has changed since it was read")
)

// ledger collects counts by second, then by variant.
type ledger map[int64]*trial.Window

func (l ledger) at(second int64) *trial.Window {
	w := l[second]
	if w == nil {
		w = new(trial.Window)
		l[second] = w
	}
	return w
}

// before returns the windows of the seconds before one, the oldest first.
func (l ledger) before(second int64) (list []trial.Window) {
	var closed []int64
	for s := range l {
		if s < second {
			closed = append(closed, s)
		}
	}
	slices.Sort(closed)
	for _, s := range closed {
		list = append(list, *l[s])
	}
	return list
}
