package flags

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

func init() {
	caddy.RegisterModule(new(File))
}

// look is how often the file is looked at. Mounted files change by a link that
// is put in the place of another, of which no notice can be had everywhere.
const look = time.Second

// File is a source: a file of rules that is read anew when it changes. One that
// cannot be read, or that holds a mistake, leaves the rules before it in force.
type File struct {
	// Path is where the file is, in YAML or JSON. Required.
	Path string `json:"path,omitempty"`

	path  string
	desk  *Desk
	rules atomic.Pointer[rules.Set]
	state atomic.Pointer[State]

	seen   []byte // what was read last, good or bad
	failed string // what was wrong last, so that it is said once
	stop   chan struct{}
	done   sync.WaitGroup
}

// CaddyModule returns the Caddy module information.
func (*File) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: sources + ".file", New: func() caddy.Module { return new(File) }}
}

// ID names the source among all that there ever were.
func (f *File) ID() string { return "file:" + f.Path }

// Prepare reads the file. A bad one is refused, unless the rules of a process
// before this one are known: a mistake in a file must not keep a gateway from
// starting that would go on if it had not been stopped.
func (f *File) Prepare(d *Desk) error {
	if f.Path == "" {
		return fmt.Errorf("there is no path; write 'source file flags.yaml'")
	}
	f.desk = d
	repl := caddy.NewReplacer()
	var err error
	if f.path, err = repl.ReplaceOrErr(f.Path, true, true); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	set, err := f.read()
	if err == nil {
		f.rules.Store(set)
		f.state.Store(&State{Heard: time.Now()})
		return nil
	}
	f.state.Store(&State{Err: err})
	kept, keptErr := rules.Parse(d.Kept(context.Background()), d.Attribute)
	if keptErr != nil {
		return err
	}
	d.Logger.Error("flags file is not in force; the last known flags are", zap.String("file", f.path), zap.Error(err))
	f.failed = err.Error()
	f.rules.Store(kept)
	return nil
}

func (f *File) read() (*rules.Set, error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		f.seen = nil
		return nil, err
	}
	f.seen = text
	set, err := rules.Parse(text, f.desk.Attribute)
	if err != nil {
		return nil, fmt.Errorf("%s, %w", f.path, err)
	}
	return set, nil
}

// Start begins to look at the file.
func (f *File) Start(*Desk) error {
	f.stop = make(chan struct{})
	f.done.Go(func() {
		if kept, err := rules.Parse(f.desk.Kept(context.Background()), nil); err == nil {
			f.desk.Baseline(Texts(kept))
		}
		if f.state.Load().Err == nil {
			f.accept()
		}
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f.again()
			case <-f.stop:
				return
			}
		}
	})
	return nil
}

// again reads the file if it is another one than was read last.
func (f *File) again() {
	text, err := os.ReadFile(f.path)
	if err == nil && bytes.Equal(text, f.seen) && f.seen != nil {
		if f.state.Load().Err == nil {
			f.state.Store(&State{Heard: time.Now()})
		}
		return
	}
	set, err := f.read()
	if err != nil {
		before := f.state.Load()
		f.state.Store(&State{Heard: before.Heard, Err: err})
		if err.Error() != f.failed {
			f.failed = err.Error()
			f.desk.Logger.Error("flags file is not in force; the flags before it stay", zap.String("file", f.path), zap.Error(err))
		}
		return
	}
	f.failed = ""
	f.rules.Store(set)
	f.state.Store(&State{Heard: time.Now()})
	f.accept()
}

// accept keeps what is in force and tells of what has changed.
func (f *File) accept() {
	f.desk.Keep(context.Background(), f.seen)
	f.desk.Changed(Texts(f.rules.Load()), "")
}

// Rules implements Ruled.
func (f *File) Rules() *rules.Set { return f.rules.Load() }

// State implements Source.
func (f *File) State() State { return *f.state.Load() }

// Stop ends the looking.
func (f *File) Stop() {
	close(f.stop)
	f.done.Wait()
}

// UnmarshalCaddyfile reads the source. Syntax:
//
//	source file <path>
func (f *File) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&f.Path) {
		return d.Err("source 'file' takes one path, such as 'source file flags.yaml'")
	}
	if d.NextBlock(d.Nesting()) {
		return d.Err("source 'file' takes no block")
	}
	return nil
}

var (
	_ Ruled                 = (*File)(nil)
	_ caddyfile.Unmarshaler = (*File)(nil)
)
