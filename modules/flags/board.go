package flags

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// boards holds the one board of the process while a configuration has flags.
var boards = caddy.NewUsagePool()

// board is what outlives a reload: the splits that controllers set, and what
// the flags of each source were, so that a change is told once.
type board struct {
	steered atomic.Pointer[map[string]Split] // replaced as a whole
	mu      sync.Mutex                       // guards writes of steered, and known
	known   map[string]map[string]string
	loaded  bool
}

func holdBoard() (*board, error) {
	held, _, err := boards.LoadOrNew("board", func() (caddy.Destructor, error) {
		b := &board{known: make(map[string]map[string]string)}
		b.steered.Store(&map[string]Split{})
		return b, nil
	})
	if err != nil {
		return nil, err
	}
	return held.(*board), nil
}

// Destruct has nothing to close.
func (*board) Destruct() error { return nil }

// restore takes over the splits of a process before this one, once.
func (b *board) restore(load func() map[string]Split) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loaded {
		return
	}
	b.loaded = true
	if m := load(); len(m) > 0 {
		b.steered.Store(&m)
	}
}

func (b *board) split(flag string) Split { return (*b.steered.Load())[flag] }

func (b *board) steer(flag string, s Split) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := maps.Clone(*b.steered.Load())
	if s == nil {
		delete(next, flag)
	} else {
		next[flag] = slices.Clone(s)
	}
	b.steered.Store(&next)
}

func (b *board) baseline(id string, was map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known[id] == nil {
		b.known[id] = was
	}
}

// changed reports each difference to what was known of a source. The first that
// is ever known of it is no change.
func (b *board) changed(id string, now map[string]string, who string, log *zap.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.known[id]
	b.known[id] = now
	if before == nil {
		return
	}
	names := slices.Collect(maps.Keys(now))
	for name := range before {
		if _, still := now[name]; !still {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if before[name] != now[name] {
			tell(change{flag: name, source: id, before: before[name], after: now[name], who: who}, log)
		}
	}
}

// took notes a change that was told by who made it.
func (b *board) took(id, flag, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known[id] == nil {
		return
	}
	next := maps.Clone(b.known[id])
	if text == "" {
		delete(next, flag)
	} else {
		next[flag] = text
	}
	b.known[id] = next
}

// change is one flag's, from one definition to another; an empty one means that
// there is no such flag.
type change struct{ flag, source, before, after, who, order string }

func (c change) code() string {
	switch {
	case c.before == "":
		return "flag-added"
	case c.after == "":
		return "flag-removed"
	}
	return "flag-changed"
}

// longest is how much of a definition a record holds.
const longest = 4096

func tell(c change, log *zap.Logger) {
	changesTotal.WithLabelValues(c.source).Inc()
	log.Info(c.code(), zap.String("flag", c.flag), zap.String("source", c.source),
		zap.String("before", c.before), zap.String("after", c.after), zap.String("who", c.who))
	if !exchange.Heard() {
		return
	}
	cut := func(s string) string { return s[:min(len(s), longest)] }
	attrs := []slog.Attr{
		slog.String("flag", c.flag), slog.String("source", c.source),
		slog.String("before", cut(c.before)), slog.String("after", cut(c.after)),
	}
	if c.who != "" {
		attrs = append(attrs, slog.String("by", c.who))
	}
	exchange.Report(exchange.Fact{Kind: exchange.FlagChanged, Time: time.Now(), Code: c.code(), Attrs: attrs, Order: c.order})
}
