package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// journal is what the desk writes into and the deliveries read from.
type journal interface {
	// Append adds a record and never blocks; spool.ErrFull refuses its class.
	Append(class uint8, at time.Time, payload []byte) (spool.Mark, error)
	// Sync returns nil once the record at the mark is as safe as the journal
	// can make it.
	Sync(ctx context.Context, m spool.Mark) error
	// Reader reads what stands behind a place.
	Reader(after spool.Mark) spool.Reader
	// Begin is the place before the oldest record that is held.
	Begin() spool.Mark
	// Release lets go of everything up to and including a place.
	Release(m spool.Mark)
	// Cursor and SetCursor keep how far a sink has come.
	Cursor(sink string) spool.Mark
	SetCursor(sink string, m spool.Mark) error
	// SetAside keeps an event that a sink never takes.
	SetAside(sink string, line []byte) error
	Stats() spool.Stats
	SetBounds(limit int64, minFree float64, dropOldest bool)
	Close() error
}

// desks outlive a reload: the journal stays open and the sinks keep their places.
var desks = caddy.NewUsagePool()

// desk is where events are written down and sent from. It holds no setting
// that a reload may change; those stand in the App that is bound in Start.
type desk struct {
	node string
	dir  string // of the spool; empty: in memory

	journal journal
	log     *spool.Log // the journal, where it is on disk
	floods  floods

	// lost counts, by class, the events that found no room since the last gap
	// event was written.
	lost      [len(classNames)]atomic.Int64
	lostSince atomic.Int64

	// hurry closes when the process ends: linger and backoff are cut short.
	hurry     chan struct{}
	hurryOnce sync.Once

	signed atomic.Pointer[signature]

	// calling is the admin request that is being made, if there is one.
	calling  atomic.Pointer[Call]
	recent   recentCalls
	watch    context.Context // of those who look at configurations
	unwatch  context.CancelFunc
	watching sync.WaitGroup
	configMu sync.Mutex // guards version and compared
	version  Version    // the active configuration, as last seen
	compared bool       // in this life of the process
	refused  atomic.Pointer[refusedLoad]

	// moves gets a signal after a delivery moved.
	moves chan struct{}

	turn sync.Mutex // held while configurations come and go; taken before mu

	mu         sync.Mutex // guards what follows
	apps       []*App     // the newest last
	deliveries map[string]*delivery
	// places is where sinks stood when it was last kept, also of sinks that no
	// configuration names now.
	places    map[string]spool.Mark
	mentioned map[string]time.Time
	tidier    context.CancelFunc
	tidied    sync.WaitGroup
}

// newDesk makes a desk without touching the disk or starting anything.
func newDesk(node, dir string) *desk {
	return &desk{
		node: node, dir: dir,
		hurry:      make(chan struct{}),
		moves:      make(chan struct{}, 1),
		deliveries: make(map[string]*delivery),
		places:     make(map[string]spool.Mark),
		mentioned:  make(map[string]time.Time),
	}
}

// attach makes a the configuration whose sinks and settings count. First says
// that it is the one for which the journal was opened.
func (d *desk) attach(a *App) (first bool, err error) {
	d.turn.Lock()
	defer d.turn.Unlock()
	if a.Node != d.node {
		return false, fmt.Errorf("audit: the spool belongs to node '%s'; a node takes another name with a restart", d.node)
	}
	if first = d.journal == nil; first {
		if err := d.open(a); err != nil {
			return false, err
		}
	}
	d.bounds(a)
	a.arm(d.log) // before anybody finds a among the apps
	d.mu.Lock()
	d.apps = append(d.apps, a)
	retired := d.rebindLocked()
	d.mu.Unlock()
	d.retire(retired)
	return first, nil
}

func (d *desk) open(a *App) error {
	if d.dir == "" {
		d.journal = spool.NewRing(a.MaxBytes, uint64(time.Now().UnixMilli()))
		spoolLimit.WithLabelValues().Set(float64(a.MaxBytes))
	} else {
		l, err := spool.Open(d.dir, spool.Options{Node: d.node, Limit: a.MaxBytes, MinFree: a.minFree(), DropOldest: a.DropOldest})
		if err != nil {
			return fmt.Errorf("audit: open spool %s: %w", d.dir, err)
		}
		l.OnSync(func(took time.Duration, err error) {
			syncSeconds.WithLabelValues().Observe(took.Seconds())
			if err != nil {
				syncErrors.WithLabelValues().Inc()
			}
		})
		d.journal, d.log = l, l
	}
	d.recall()
	d.watch, d.unwatch = context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	d.tidier = cancel
	d.tidied.Go(func() { d.tidy(ctx) })
	return nil
}

// bounds makes the limits those of the newest configuration, or of the one
// that is left.
func (d *desk) bounds(a *App) {
	d.journal.SetBounds(a.MaxBytes, a.minFree(), a.DropOldest)
	if d.log != nil {
		spoolLimit.WithLabelValues().Set(float64(a.MaxBytes))
	}
}

// detach takes a's settings away. If a was the last, what is held is delivered
// for as long as patience lasts.
func (d *desk) detach(a *App, patience time.Duration) {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.mu.Lock()
	last := len(d.apps) == 1
	d.mu.Unlock()
	if last {
		a.lifecycle(stopKind, "the gateway stops, or goes on without audit")
		d.drain(a, patience)
	}
	d.mu.Lock()
	d.apps = slices.DeleteFunc(d.apps, func(o *App) bool { return o == a })
	retired := d.rebindLocked()
	d.mu.Unlock()
	d.retire(retired)
	if now := d.newest(); now != nil {
		d.bounds(now)
	}
}

// retire ends deliveries, which need mu to finish what they are at.
func (d *desk) retire(deliveries []*delivery) {
	for _, dl := range deliveries {
		dl.halt()
		d.keep(dl)
	}
}

// keep stores how far a sink has come, if it came further.
func (d *desk) keep(dl *delivery) {
	at := *dl.at.Load()
	d.mu.Lock()
	known := d.places[dl.name] == at
	d.places[dl.name] = at
	d.mu.Unlock()
	if known {
		return
	}
	if err := d.journal.SetCursor(dl.name, at); err != nil && d.mention("cursor") {
		dl.bound.Load().logger.Error("keep the place of an audit sink; after a crash it gets events again", zap.String("sink", dl.name), zap.Error(err))
	}
}

// superseded says that a newer configuration has taken over from a.
func (d *desk) superseded(a *App) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.apps) > 0 && d.apps[len(d.apps)-1] != a
}

// rebindLocked gives every sink of the newest configuration a delivery, and
// returns those that it does not name.
func (d *desk) rebindLocked() (retired []*delivery) {
	var sinks []*sinkEntry
	if n := len(d.apps); n > 0 {
		sinks = d.apps[n-1].sinks
	}
	for name, dl := range d.deliveries {
		if !slices.ContainsFunc(sinks, func(s *sinkEntry) bool { return s.name == name }) {
			retired = append(retired, dl)
			delete(d.deliveries, name)
		}
	}
	for _, s := range sinks {
		b := &binding{sink: s.sink, required: !s.optional, maxLag: s.maxLag, logger: d.apps[len(d.apps)-1].logger}
		dl, known := d.deliveries[s.name]
		if !known {
			at, seen := d.places[s.name]
			if !seen {
				at = d.journal.Cursor(s.name)
			}
			if at == (spool.Mark{}) {
				at = d.journal.Begin() // a new sink lacks nothing that is gone already
			}
			dl = newDelivery(d, s.name, at)
			d.deliveries[s.name] = dl
		}
		dl.bind(b)
		if !known {
			dl.start()
		}
	}
	return retired
}

// put writes an event into the journal; it never blocks.
func (d *desk) put(c class, at time.Time, payload []byte) (spool.Mark, error) {
	m, err := d.journal.Append(uint8(c), at, payload)
	if err != nil {
		dropped[c].Inc()
		d.lost[c].Add(1)
		d.lostSince.CompareAndSwap(0, at.UnixNano())
		return m, err
	}
	accepted[c].Inc()
	return m, nil
}

// drain waits until every sink has everything, or patience ends.
func (d *desk) drain(a *App, patience time.Duration) {
	d.hurryOnce.Do(func() { close(d.hurry) })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = d.journal.Sync(ctx, d.journal.Stats().Last) // what fails here stays for the next start
	d.sign(a, time.Now(), true)
	_ = d.journal.Sync(ctx, d.journal.Stats().Last)
	for d.behind() {
		select {
		case <-ctx.Done():
			return
		case <-d.moves:
		}
	}
}

func (d *desk) hurrying() bool {
	select {
	case <-d.hurry:
		return true
	default:
		return false
	}
}

func (d *desk) behind() bool {
	last := d.journal.Stats().Last.Seq
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dl := range d.deliveries {
		if dl.at.Load().Seq < last {
			return true
		}
	}
	return false
}

// moved hears that a delivery has come further. What is in memory is let go at
// once; what is on disk waits until the place has been kept.
func (d *desk) moved() {
	select {
	case d.moves <- struct{}{}:
	default:
	}
	if d.dir == "" {
		d.release()
	}
}

// setAside gives up an event that a sink never takes.
func (d *desk) setAside(sink string, e Event, cause error, logger *zap.Logger) {
	dead.WithLabelValues(sink).Inc()
	fields := []zap.Field{zap.String("sink", sink), zap.Uint64("seq", e.Mark.Seq), zap.String("type", e.Type), zap.Error(cause)}
	if err := d.journal.SetAside(sink, e.JSON); err != nil {
		// The log is the last place where the event can be found.
		fields = append(fields, zap.ByteString("event", e.JSON), zap.NamedError("keep", err))
	}
	logger.Error("audit event set aside", fields...)
	d.tellDead(sink, e, cause)
}

// mention says whether a condition may be logged: once every ten seconds.
func (d *desk) mention(condition string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if now.Sub(d.mentioned[condition]) < 10*time.Second {
		return false
	}
	d.mentioned[condition] = now
	return true
}

// newest is the App whose settings count, or nil.
func (d *desk) newest() *App {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.apps) == 0 {
		return nil
	}
	return d.apps[len(d.apps)-1]
}

// Destruct ends the deliveries and closes the journal.
func (d *desk) Destruct() error {
	if d.journal == nil {
		return nil
	}
	d.unwatch()
	d.watching.Wait()
	d.tidier()
	d.tidied.Wait()
	d.mu.Lock()
	rest := slices.Collect(maps.Values(d.deliveries))
	clear(d.deliveries)
	d.mu.Unlock()
	d.retire(rest)
	if err := d.journal.Close(); err != nil && !errors.Is(err, spool.ErrClosed) {
		return fmt.Errorf("close audit spool: %w", err)
	}
	return nil
}
