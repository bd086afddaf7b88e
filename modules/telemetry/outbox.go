package telemetry

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// outbox holds records that are ready to be sent. They wait in parcels of a
// batch each; when as many wait as may, new ones are dropped and counted.
type outbox struct {
	*lane
	// limit bounds the records that wait and those on their way, batch those of
	// a parcel; delay is how long a record waits at most before it is sent, and
	// patience how long the delivery of a parcel may take, with all its tries.
	limit, batch    int
	delay, patience time.Duration
	upload          func(ctx context.Context, records []byte) error

	mu      sync.Mutex // guards what follows
	parcels []parcel
	held    int // bytes in parcels
	closed  bool
	spare   []byte // the memory of a parcel that was sent

	wake chan struct{} // a parcel is full, or the outbox closed
	done chan struct{} // all is sent
}

type parcel struct {
	records []byte
	count   int
}

const (
	// mostHeld bounds the memory of what waits: long paths are cheap to send.
	mostHeld = 64 << 20
	// mostSpared is the largest memory that is kept for the next parcel.
	mostSpared = 4 << 20
	// leastWait and mostWait lie between two attempts to reach a collector.
	leastWait, mostWait = 250 * time.Millisecond, 4 * time.Second
)

func (o *outbox) start() {
	o.wake, o.done = make(chan struct{}, 1), make(chan struct{})
	go o.run()
}

// put takes a record over, or drops and counts it, unless the outbox is closed.
func (o *outbox) put(record []byte) (taken, open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, false
	}
	if o.waiting.Load() >= int64(o.limit) || o.held+len(record) > mostHeld {
		o.dropped.Add(1)
		return false, true
	}
	o.waiting.Add(1)
	last := len(o.parcels) - 1
	if last < 0 || o.parcels[last].count == o.batch {
		o.parcels = append(o.parcels, parcel{records: o.spare[:0]})
		o.spare = nil
		last++
	}
	p := &o.parcels[last]
	o.held -= len(p.records)
	// Field 2 of ScopeSpans and of ScopeLogs alike.
	p.records = protowire.AppendTag(p.records, 2, protowire.BytesType)
	p.records = protowire.AppendBytes(p.records, record)
	p.count++
	o.held += len(p.records)
	if p.count == o.batch {
		o.signal()
	}
	return true, true
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (o *outbox) run() {
	defer close(o.done)
	ticks := time.NewTicker(o.delay)
	defer ticks.Stop()
	for {
		ripe := false
		select {
		case <-ticks.C:
			ripe = true
		case <-o.wake:
		}
		for {
			p, closed := o.take(ripe)
			if p.count > 0 {
				o.send(p)
				ripe = ripe && p.count == o.batch
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}

// take returns the oldest parcel if it is full, or if records have waited long
// enough.
func (o *outbox) take(ripe bool) (p parcel, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.parcels) == 0 || !ripe && !o.closed && o.parcels[0].count < o.batch {
		return parcel{}, o.closed
	}
	p = o.parcels[0]
	o.parcels[0] = parcel{}
	o.parcels = o.parcels[1:]
	o.held -= len(p.records)
	return p, o.closed
}

func (o *outbox) send(p parcel) {
	ctx, done := o.bound(context.Background())
	defer done()
	ctx, cancel := context.WithTimeout(ctx, o.patience)
	defer cancel()
	o.note(p.count, o.deliver(ctx, p.records))
	o.waiting.Add(int64(-p.count))
	o.mu.Lock()
	defer o.mu.Unlock()
	if cap(p.records) <= mostSpared {
		o.spare = p.records
	}
}

// deliver uploads until it has worked or ctx ends, where the collector cannot be
// reached: the exporter itself goes on only after answers that ask for it, and a
// collector that restarts gives none.
func (o *outbox) deliver(ctx context.Context, records []byte) error {
	for wait := leastWait; ; wait = min(2*wait, mostWait) {
		err := o.upload(ctx, records)
		var unreachable *url.Error
		if !errors.As(err, &unreachable) || ctx.Err() != nil {
			return err
		}
		o.fare(err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// close takes no more records and sends what waits until ctx ends; what is
// left then counts as not taken.
func (o *outbox) close(ctx context.Context) {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.signal()
	select {
	case <-o.done:
	case <-ctx.Done():
		o.cancel()
		<-o.done
	}
}
