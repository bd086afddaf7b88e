package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// Sink takes batches of events to where they are kept. It is a Caddy module in
// the namespace `sallyport.audit.sinks`. One goroutine calls Deliver, one batch
// at a time; during a reload the last call of an old sink may overlap its
// Cleanup, and at the end of the process calls may follow it.
type Sink interface {
	// Deliver returns nil once the far side has the whole batch. A *Fault says
	// what to do instead; any other error means trying again later. Handing a
	// batch over twice is harmless: consumers know events by their place.
	Deliver(ctx context.Context, batch Batch) error
}

// Batch is a run of events in order. It is valid during the call only.
type Batch struct {
	// Node is the gateway that recorded the events.
	Node string
	// Events are there at least once.
	Events []Event
}

// Event is one event as every sink gets it.
type Event struct {
	// Mark is its place: epoch and sequence are gap-free for each node.
	Mark spool.Mark
	// Time is when it happened.
	Time time.Time
	// Type is the CloudEvents type.
	Type string
	// JSON is the event as a CloudEvent in structured mode.
	JSON []byte
}

// Verdict is what becomes of a batch that a sink did not take.
type Verdict int

// The verdicts.
const (
	// Again: try the same batch later, for as long as it takes.
	Again Verdict = iota
	// Smaller: the batch is too big; try halves. A single event is set aside.
	Smaller
	// Poison: the batch holds an event that is never accepted; find it by
	// halving, set it aside, deliver the rest.
	Poison
	// Denied: we may not deliver, or not there. Try again slowly and raise an
	// alarm. Never a reason to give up an event.
	Denied
	// Gone: stop until the configuration changes.
	Gone
)

func (v Verdict) String() string {
	return [...]string{"retry", "smaller", "poison", "denied", "gone"}[v]
}

// Fault is an error with a verdict.
type Fault struct {
	Verdict Verdict
	// After is how long the far side asked us to wait; zero if it did not.
	After time.Duration
	Err   error
}

func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

func fault(v Verdict, after time.Duration, format string, args ...any) *Fault {
	return &Fault{Verdict: v, After: after, Err: fmt.Errorf(format, args...)}
}

// verdict reads any error of a sink.
func verdict(err error) *Fault {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	return &Fault{Verdict: Again, Err: err}
}
