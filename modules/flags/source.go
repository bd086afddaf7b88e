package flags

import (
	"context"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/open-feature/go-sdk/openfeature"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

// Source is where flags come from: a module of the namespace
// sallyport.flags.sources. It is a Ruled or a Remote one.
type Source interface {
	// Start begins to follow the source. It waits for nothing that is far away.
	Start(d *Desk) error
	// Stop ends what Start began and waits for it.
	Stop()
	// State says how well the source is known.
	State() State
}

// Ruled is a source of our own rules, which the gateway evaluates itself.
type Ruled interface {
	Source
	// Rules are those in force. It is called for each evaluation and must not
	// lock. Nil: none are known yet.
	Rules() *rules.Set
}

// Remote is a source that somebody else owns; it evaluates by its provider.
type Remote interface {
	Source
	// Provider is asked with the object type, whose value may be of any. It
	// lives on while requests of a configuration are served that was stopped, and
	// over reloads. It answers at once, or after a time that the source bounds.
	Provider() openfeature.FeatureProvider
}

// Writer is a source whose flags can be changed through the gateway.
type Writer interface {
	Source
	// Write puts a definition in the place of the flag's, or takes the flag away
	// where text is nil. It returns the definition there was and the one there is,
	// and a *rules.Error for a mistake in text.
	Write(ctx context.Context, name string, text []byte, who string) (before, after string, err error)
}

// State is how well a source is known.
type State struct {
	// Heard is when the source last confirmed what is known of it; zero: never.
	Heard time.Time
	// Err is why it cannot be asked now, or why what it said is not in force.
	Err error
}

// Desk is what the app does for one source.
type Desk struct {
	Logger *zap.Logger
	// Attribute says whether rules may name this attribute.
	Attribute rules.Attributes

	app *App
	id  string
}

// Kept returns what was last kept of the source, also by a process before this
// one; nil if nothing was.
func (d *Desk) Kept(ctx context.Context) []byte { return d.app.shelf.load(ctx, d.id) }

// Keep writes down what is known of the source, for when it cannot be asked.
func (d *Desk) Keep(ctx context.Context, text []byte) {
	if err := d.app.shelf.save(ctx, d.id, text); err != nil {
		d.Logger.Warn("keep the last known flags in storage", zap.Error(err))
	}
}

// Changed compares the flags of the source with those before, which it knows
// also from before a reload, and reports each difference. Who is who changed
// them, where the source says.
func (d *Desk) Changed(now map[string]string, who string) {
	d.app.board.changed(d.id, now, who, d.Logger)
}

// Observed reports that a flag of somebody else's source, whose definition is
// not to be had, gives a caller another value than before.
func (d *Desk) Observed(flag, before, after string) {
	tell(change{flag: flag, source: d.id, before: before, after: after}, d.Logger)
}

// Took says that a change was told by the gateway that made it.
func (d *Desk) Took(flag, text string) { d.app.board.took(d.id, flag, text) }

// Baseline says what the flags were when nobody looked, if nobody has looked yet.
func (d *Desk) Baseline(was map[string]string) { d.app.board.baseline(d.id, was) }

// Texts returns the definitions of a set, for Changed.
func Texts(s *rules.Set) map[string]string {
	texts := make(map[string]string)
	if s != nil {
		for name, f := range s.Flags {
			texts[name] = f.Text
		}
	}
	return texts
}

// held is a source of a configuration.
type held struct {
	name   string // such as `file`, and `file#2` for the second
	id     string // of what is kept of it
	source Source
	ruled  Ruled  // nil for a remote one
	remote Remote // nil for a ruled one
	writer Writer // nil for one that is only read
	start  func() error
}

func nameOf(m any) string {
	module, ok := m.(caddy.Module)
	if !ok {
		return "source"
	}
	return module.CaddyModule().ID.Name()
}
