package audit

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

const (
	batchEvents = 500
	batchBytes  = 1 << 20
	// linger is how long a batch waits for company.
	linger = 250 * time.Millisecond
	// deliverTimeout bounds one attempt: a sink that hangs has failed.
	deliverTimeout = 10 * time.Second
	backoffFloor   = 250 * time.Millisecond
	backoffCeiling = time.Minute
	// retryAfterCap bounds what a sink may ask for.
	retryAfterCap = 10 * time.Minute
	deniedWait    = 30 * time.Second
)

// delivery brings the spool's events to one sink, in order, on a goroutine of
// its own: a dead sink holds up nobody else.
type delivery struct {
	desk *desk
	name string

	bound atomic.Pointer[binding]
	// at is the last event the sink has, or that was set aside.
	at atomic.Pointer[spool.Mark]
	// waiting is when the oldest event in hand happened, in Unix nanoseconds.
	waiting atomic.Int64

	stop context.CancelFunc
	done sync.WaitGroup

	// most is how many events a batch may hold; the sink's 413 lowers it. It
	// belongs to the goroutine, as the buffers do.
	most    int
	divided bool
	reader  spool.Reader
	recs    []spool.Record
	arena   []byte
	events  []Event
	types   map[string]string // those seen, so that each is one text
}

// binding is the sink as the newest configuration describes it.
type binding struct {
	sink     Sink
	required bool
	maxLag   time.Duration // of an optional sink
	logger   *zap.Logger
	// replaced closes when a newer binding takes over, so that a delivery that
	// waits out a fault tries the new one at once.
	replaced chan struct{}
}

func newDelivery(d *desk, name string, at spool.Mark) *delivery {
	dl := &delivery{desk: d, name: name, most: batchEvents, types: make(map[string]string)}
	dl.at.Store(&at)
	dead.WithLabelValues(name)
	skipped.WithLabelValues(name)
	return dl
}

func (d *delivery) bind(b *binding) {
	b.replaced = make(chan struct{})
	if old := d.bound.Swap(b); old != nil {
		close(old.replaced)
	}
}

func (d *delivery) start() {
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	d.done.Go(func() { d.run(ctx) })
}

func (d *delivery) halt() {
	d.stop()
	d.done.Wait()
}

func (d *delivery) run(ctx context.Context) {
	d.reader = d.desk.journal.Reader(*d.at.Load())
	for ctx.Err() == nil {
		recs, more, err := d.reader.Read(d.most, batchBytes, d.recs)
		d.recs = recs
		switch {
		case errors.Is(err, spool.ErrClosed):
			return
		case err != nil:
			d.bound.Load().logger.Error("read audit spool", zap.String("sink", d.name), zap.Error(err))
			d.rest(ctx, backoffCeiling, nil)
		case len(recs) == 0:
			d.waiting.Store(0)
			if d.rest(ctx, 0, more) {
				d.rest(ctx, linger, d.desk.hurry)
			}
		default:
			d.waiting.Store(recs[0].Time.UnixNano())
			d.noteSkip(recs[0].Mark)
			d.divided = false
			if d.hand(ctx, d.dress(recs)) == nil && !d.divided {
				d.most = min(batchEvents, d.most+d.most/8+1)
			}
		}
	}
}

// rest waits for limit (zero: for ever) or until until closes. It says whether
// the delivery goes on.
func (d *delivery) rest(ctx context.Context, limit time.Duration, until <-chan struct{}) bool {
	var expired <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-expired:
	case <-until:
	}
	return true
}

// noteSkip records that the spool no longer had what this sink would have got.
func (d *delivery) noteSkip(first spool.Mark) {
	at := *d.at.Load()
	if first.Seq <= at.Seq+1 {
		return
	}
	reason := "skipped"
	if d.bound.Load().required {
		reason = "oldest"
	}
	count := int64(first.Seq - at.Seq - 1)
	skipped.WithLabelValues(d.name).Add(float64(count))
	d.desk.gap(reason, d.name, count, spool.Mark{Epoch: at.Epoch, Seq: at.Seq + 1})
}

// lag is the age of the oldest event in hand.
func (d *delivery) lag(now time.Time) time.Duration {
	if w := d.waiting.Load(); w != 0 {
		return max(0, now.Sub(time.Unix(0, w)))
	}
	return 0
}

// dress puts the place in front of each stored event.
func (d *delivery) dress(recs []spool.Record) []Event {
	d.arena, d.events = d.arena[:0], d.events[:0]
	for i := range recs {
		start := len(d.arena)
		d.arena = appendPlace(d.arena, d.desk.node, recs[i].Mark)
		d.arena = append(d.arena, recs[i].Payload[1:]...)
		d.events = append(d.events, Event{Mark: recs[i].Mark, Time: recs[i].Time, Type: d.typeOf(recs[i].Payload), JSON: d.arena[start:len(d.arena):len(d.arena)]})
	}
	return d.events
}

func appendPlace(b []byte, node string, m spool.Mark) []byte {
	b = append(b, `{"seq":"`...)
	b = strconv.AppendUint(b, m.Seq, 10)
	b = append(b, `","epoch":"`...)
	b = strconv.AppendUint(b, m.Epoch, 10)
	b = append(b, `","node":`...)
	b = appendString(b, node)
	return append(b, ',')
}

// typeOf returns an event's type. Types are few: they are names in the rooms' code.
func (d *delivery) typeOf(payload []byte) string {
	name := typeOf(payload)
	known, seen := d.types[string(name)]
	if !seen {
		known = string(name)
		d.types[known] = known
	}
	return known
}

// typeOf cuts the type out of an event of ours, whose members have a fixed order.
func typeOf(payload []byte) []byte {
	_, rest, ok := bytes.Cut(payload, []byte(`,"type":"`))
	if !ok {
		return nil
	}
	name, _, _ := bytes.Cut(rest, []byte{'"'})
	return name
}

// hand gives batch to the sink and does not return before the sink has it, an
// event that it never takes has been set aside, or ctx ends.
func (d *delivery) hand(ctx context.Context, batch []Event) error {
	for tries := 0; ; tries++ {
		b := d.bound.Load()
		err := d.attempt(ctx, b, batch)
		if err == nil {
			d.advance(batch[len(batch)-1].Mark)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := verdict(err)
		requests.WithLabelValues(d.name, f.Verdict.String()).Inc()
		switch f.Verdict {
		case Smaller, Poison:
			return d.divide(ctx, b, batch, f)
		case Gone:
			b.logger.Error("audit sink is gone; events are kept until the configuration changes", zap.String("sink", d.name), zap.Error(f.Err))
			d.rest(ctx, 0, b.replaced)
		default:
			wait := d.wait(f, tries)
			if d.desk.mention(d.name + f.Verdict.String()) {
				b.logger.Warn("audit sink refuses; events are kept", zap.String("sink", d.name), zap.Error(f.Err), zap.Duration("retry_in", wait))
			}
			d.rest(ctx, wait, b.replaced)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (d *delivery) attempt(ctx context.Context, b *binding, batch []Event) error {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	err := b.sink.Deliver(ctx, Batch{Node: d.desk.node, Events: batch})
	if err == nil {
		requests.WithLabelValues(d.name, "delivered").Inc()
		delivered.WithLabelValues(d.name).Add(float64(len(batch)))
	}
	return err
}

// wait is how long to pause after the given number of tries.
func (d *delivery) wait(f *Fault, tries int) time.Duration {
	switch {
	case d.desk.hurrying():
		return backoffFloor
	case f.After > 0:
		return min(f.After, retryAfterCap)
	case f.Verdict == Denied:
		return deniedWait
	}
	ceiling := min(backoffCeiling, backoffFloor<<min(tries, 10))
	return backoffFloor/2 + rand.N(ceiling)
}

// divide delivers the halves of a batch that as a whole is refused, which
// finds a poisonous event within log2 of the batch's size.
func (d *delivery) divide(ctx context.Context, b *binding, batch []Event, f *Fault) error {
	if len(batch) == 1 {
		d.desk.setAside(d.name, batch[0], f.Err, b.logger)
		d.advance(batch[0].Mark)
		return nil
	}
	d.divided = true // the size grows again only after a batch went through whole
	half := len(batch) / 2
	if f.Verdict == Smaller {
		d.most = half
	}
	if err := d.hand(ctx, batch[:half]); err != nil {
		return err
	}
	return d.hand(ctx, batch[half:])
}

func (d *delivery) advance(to spool.Mark) {
	d.at.Store(&to)
	d.desk.moved()
}
