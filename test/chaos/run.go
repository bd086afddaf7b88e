package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// phase is a part of the run in which one thing is broken, or nothing is.
type phase struct {
	drill, name string
	// broken is false while nothing is broken, or while what was is mended.
	broken                bool
	outage, unseen, wrong bool
	from, to              time.Time
	alerts                []string
	turns                 []turn
	// restored is how long it took from the mending until nothing was degraded and no alert fired.
	restored time.Duration
	err      error
}

// calmFor is how long the undisturbed phase lasts that latencies are held against.
const calmFor = 8 * time.Second

// run runs the drills and says what came of them.
func run(ctx context.Context, chosen []theme, o options, out io.Writer) (*verdict, error) {
	fmt.Fprintf(out, "starting everything in %s\n", o.dir)
	s, err := start(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	l, err := newLoad(ctx, s, o.rate)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := new(watch)
	watching, driving := make(chan struct{}), make(chan struct{})
	go func() { defer close(watching); w.follow(ctx, s.prometheus) }()
	loading, enough := context.WithCancel(ctx)
	defer enough()
	// Caches, connections and windows fill before anything is judged.
	warm := time.Now().Add(3 * time.Second)
	go func() { defer close(driving); l.drive(loading) }()

	r := &runner{scene: &scene{s, l}, watch: w, out: out, short: o.short}
	err = r.all(ctx, chosen, warm)
	enough()
	<-driving
	if err == nil {
		// What waits is delivered before the end, and the end is on record too.
		err = await(ctx, patience, func() error { return s.calm(ctx) })
	}
	cancel()
	<-watching
	if err != nil {
		return nil, err
	}
	for _, g := range s.gateways {
		if err := g.down(); err != nil {
			return nil, err
		}
	}
	return judge(s, l, r.phases, o)
}

type runner struct {
	*scene
	watch  *watch
	out    io.Writer
	short  bool
	phases []*phase
}

func (r *runner) all(ctx context.Context, chosen []theme, warm time.Time) error {
	if err := await(ctx, patience, func() error {
		if left := time.Until(warm); left > 0 {
			return fmt.Errorf("%s of the warm-up are left", left)
		}
		return r.calm(ctx)
	}); err != nil {
		return fmt.Errorf("before anything is broken: %w", err)
	}
	r.settle(ctx)
	calm := &phase{name: "nothing is broken", from: time.Now()}
	if err := pause(ctx, calmFor); err != nil {
		return err
	}
	calm.to = time.Now()
	r.phases = append(r.phases, calm)
	for _, d := range chosen {
		for _, st := range d.steps {
			if r.short && !st.ci {
				continue
			}
			if err := r.step(ctx, d.name, st); err != nil {
				return fmt.Errorf("%s: %s: %w", d.name, st.name, err)
			}
		}
	}
	return nil
}

// step runs one step. What does not come to pass in time is a finding, kept in
// the phase; an error ends the run.
func (r *runner) step(ctx context.Context, drill string, st step) error {
	p := &phase{drill: drill, name: st.name, broken: true, outage: st.outage, unseen: st.unseen, wrong: st.wrong, alerts: st.alerts, from: time.Now()}
	fmt.Fprintf(r.out, "%s: %s\n", drill, st.name)
	if err := st.begin(ctx, r.scene); err != nil {
		return err
	}
	p.err = await(ctx, patience, func() error {
		if left := time.Until(p.from.Add(st.least)); left > 0 {
			return fmt.Errorf("%s are left", left)
		}
		if st.until != nil {
			if err := st.until(ctx, r.scene); err != nil {
				return err
			}
		}
		return r.watch.missing(st.alerts)
	})
	p.to = time.Now()
	if err := st.end(ctx, r.scene); err != nil {
		return err
	}
	mending := &phase{drill: drill, name: st.name + ", mended", outage: st.outage, unseen: st.unseen, wrong: st.wrong, from: p.to}
	err := await(ctx, patience, func() error {
		if err := r.calm(ctx); err != nil || st.alerts == nil {
			return err
		}
		return r.watch.cleared(st.alerts...)
	})
	mending.to = time.Now()
	p.err = errors.Join(p.err, err)
	p.restored = mending.to.Sub(mending.from)
	r.settle(ctx)
	p.turns = r.watch.since(p.from)
	r.phases = append(r.phases, p, mending)
	var fired []string
	for _, t := range p.turns {
		if t.firing {
			fired = append(fired, fmt.Sprintf("%s after %.0f s", t.alert, t.at.Sub(p.from).Seconds()))
		}
	}
	fmt.Fprintf(r.out, "\tbroken for %.0f s, restored after %.0f s; fired: %s\n", p.to.Sub(p.from).Seconds(), p.restored.Seconds(), strings.Join(fired, ", "))
	if p.err != nil {
		fmt.Fprintf(r.out, "\tFAILED: %v\n", p.err)
	}
	return ctx.Err()
}

// settle gives other alerts time to clear, so that the next step is told apart
// from this one. They follow from the step or from a busy machine: one that does
// not clear is no finding.
func (r *runner) settle(ctx context.Context) {
	_ = await(ctx, 30*time.Second, func() error { return r.watch.cleared() })
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
