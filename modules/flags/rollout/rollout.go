// Package rollout moves callers from one variant of a flag to another, step by
// step, and takes them back by itself when the new variant does worse.
package rollout

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/board"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
)

func init() {
	caddy.RegisterModule(new(Rollout))
}

// Rollout gives a growing share of a flag's callers its new variant, the
// canary, as long as that does no worse than the stable one at the same time.
type Rollout struct {
	// FlagName is the flag whose callers are moved. It is one of our own sources.
	FlagName string `json:"flag"`
	// Release names what is rolled out. A rollout that is over stays so; another
	// release begins anew. Default: none.
	Release string `json:"release,omitempty"`

	// Canary is the new variant.
	Canary string `json:"canary"`
	// Stable is the variant that everybody else gets. Default: the flag's other
	// one, where it has two.
	Stable string `json:"stable,omitempty"`

	// Steps are the canary's shares and how long each must be healthy. Shares
	// grow; the last is 1 and takes no time.
	Steps []Step `json:"steps"`
	// Manual begins with nobody on the canary, and waits for an order.
	Manual bool `json:"manual,omitempty"`

	// MinRequests is how many requests each variant needs before a step is left,
	// and the canary before it is taken back. Default: 100.
	MinRequests int `json:"min_requests,omitempty"`
	// ErrorRatio is by how much the share of failed requests may be larger with
	// the canary than with the stable variant; negative: it is not looked at.
	// Default: 0.01.
	ErrorRatio float64 `json:"error_ratio,omitempty"`
	// LatencyP95 is by how much the canary's 95th percentile may be longer, as a
	// share of the stable variant's; negative: it is not looked at. Default: 0.2.
	LatencyP95 float64 `json:"latency_p95,omitempty"`
	// BreakerTrips is by how much the share of requests that meet an open circuit
	// may be larger with the canary; negative: it is not looked at. Default: 0.01.
	BreakerTrips float64 `json:"breaker_trips,omitempty"`

	// Redis names the client through which all gateways share the rollout.
	// Default: `default`, where there is one; else the rollout is this gateway's
	// alone.
	Redis string `json:"redis,omitempty"`

	plan   trial.Plan
	name   string // of the rollout: the flag, and the release if there is one
	logger *zap.Logger
	ctx    caddy.Context
	events *caddyevents.App
	shelf  shelf
	shared bool
	pooled bool

	conductor *conductor
	tally     trial.Tally
	steering  flags.Steering
	wg        sync.WaitGroup
	cancel    context.CancelFunc
}

// Step is one share of the callers and how long it must be healthy.
type Step struct {
	// Share is above 0 and up to 1.
	Share float64 `json:"share"`
	// For is absent in the last step.
	For caddy.Duration `json:"for,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Rollout) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.flags.controllers.rollout", New: func() caddy.Module { return new(Rollout) }}
}

// Provision checks the plan and finds where gateways meet. It asks nobody.
func (r *Rollout) Provision(ctx caddy.Context) error {
	r.logger, r.ctx, r.shelf = ctx.Logger(), ctx, shelf{ctx.Storage()}
	r.name = r.FlagName
	if r.Release != "" {
		r.name += "/" + r.Release
	}
	r.plan = r.makePlan()
	if err := r.check(); err != nil {
		return fmt.Errorf("rollout '%s': %w", r.name, err)
	}
	if err := register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("get events app: %w", err)
	}
	r.events = events.(*caddyevents.App)
	where, err := r.meet(ctx)
	if err != nil {
		return fmt.Errorf("rollout '%s': %w", r.name, err)
	}
	r.conductor = &conductor{
		board: where, plan: &r.plan, node: rand.Text(), tally: &r.tally,
		enact: r.enact, tell: r.tell, keep: func(s trial.State) error { return r.shelf.save(r.name, s) },
	}
	return nil
}

func (r *Rollout) makePlan() trial.Plan {
	p := trial.Plan{
		Manual: r.Manual, MinRequests: int64(cmp.Or(r.MinRequests, 100)), Errors: cmp.Or(r.ErrorRatio, 0.01),
		Latency: cmp.Or(r.LatencyP95, 0.2), Trips: cmp.Or(r.BreakerTrips, 0.01),
	}
	for _, s := range r.Steps {
		p.Steps = append(p.Steps, trial.Step{Share: s.Share, For: time.Duration(s.For)})
	}
	return p
}

// check refuses what cannot be meant.
func (r *Rollout) check() error {
	switch {
	case r.Canary == "":
		return errors.New("there is no canary; name the new variant: canary <variant>")
	case r.Canary == r.Stable:
		return fmt.Errorf("canary and stable are both '%s'", r.Canary)
	case r.ErrorRatio > 1 || r.BreakerTrips > 1:
		return errors.New("error_ratio and breaker_trips take a share up to 100%, or off")
	}
	return r.plan.Validate()
}

// memories holds the boards of gateways that stand alone, over reloads.
var memories = caddy.NewUsagePool()

// meet finds the board: in the Redis of the configuration, or in memory.
func (r *Rollout) meet(ctx caddy.Context) (meeting, error) {
	client, err := redispool.Use(ctx, r.Redis)
	switch {
	case err == nil:
		r.shared = true
		return board.NewRedis(client.Redis(), r.name), nil
	case r.Redis != "" || !errors.Is(err, caddy.ErrNotConfigured):
		return nil, err
	}
	held, _, err := memories.LoadOrNew(r.name, func() (caddy.Destructor, error) { return new(board.Memory), nil })
	if err != nil {
		return nil, err
	}
	r.pooled = true
	return held.(*board.Memory), nil
}

// Flag implements flags.Controller.
func (r *Rollout) Flag() string { return r.FlagName }

// Start implements flags.Controller.
func (r *Rollout) Start(s flags.Steering) error {
	if known := s.Variants(); known != nil {
		if _, err := r.variants(known); err != nil {
			return err
		}
	}
	for _, guard := range trial.Guards {
		// An alert sees a first rollback only in a series that was there before it.
		changesTotal.WithLabelValues(r.FlagName, "rolled_back", guard)
	}
	r.steering = s
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.wg.Go(func() {
		if kept, err := r.shelf.load(r.name); err != nil {
			r.logger.Warn("read the rollout's kept state; it is taken from where the gateways meet, or begins anew", zap.String("rollout", r.name), zap.Error(err))
		} else {
			r.conductor.remember(kept)
		}
		r.conductor.run(ctx, r.noteFailure())
	})
	live.join(r)
	return nil
}

// Stop implements flags.Controller.
func (r *Rollout) Stop() {
	live.leave(r)
	r.cancel()
	r.wg.Wait()
}

// Cleanup lets go of what outlives this configuration.
func (r *Rollout) Cleanup() error {
	if !r.pooled {
		return nil
	}
	r.pooled = false
	_, err := memories.Delete(r.name)
	return err
}

// noteFailure logs when the board is lost and when it is back, not every second.
func (r *Rollout) noteFailure() func(error) {
	var before error
	return func(err error) {
		if err != nil {
			stepsFailed.WithLabelValues(r.FlagName).Inc()
		}
		switch {
		case err != nil && before == nil:
			r.logger.Error("the rollout cannot go on; its share stays as it is", zap.String("rollout", r.name), zap.Error(err))
		case err == nil && before != nil:
			r.logger.Info("the rollout goes on", zap.String("rollout", r.name))
		}
		before = err
	}
}

// variants returns the stable variant, where known ones fit.
func (r *Rollout) variants(known []string) (stable string, err error) {
	var others []string
	canary := false
	for _, v := range known {
		if v == r.Canary {
			canary = true
		} else if r.Stable == "" || v == r.Stable {
			others = append(others, v)
		}
	}
	switch {
	case !canary:
		return "", fmt.Errorf("rollout '%s': flag '%s' has no variant '%s'; its variants are %v", r.name, r.FlagName, r.Canary, known)
	case len(others) == 1:
		return others[0], nil
	case r.Stable != "":
		return "", fmt.Errorf("rollout '%s': flag '%s' has no variant '%s'; its variants are %v", r.name, r.FlagName, r.Stable, known)
	}
	return "", fmt.Errorf("rollout '%s': flag '%s' has the variants %v; name the one that is not the canary: stable <variant>", r.name, r.FlagName, known)
}

// enact gives the canary the share that a state says.
func (r *Rollout) enact(s trial.State) error {
	known := r.steering.Variants()
	if known == nil {
		return fmt.Errorf("no source of this gateway's own (file, redis) has a flag '%s'; flags of others are only read", r.FlagName)
	}
	stable, err := r.variants(known)
	if err != nil {
		return err
	}
	weight := min(int(s.Share*flags.Whole+0.5), flags.Whole)
	r.logger.Info("share of the canary", zap.String("rollout", r.name), zap.String("canary", r.Canary), zap.String("share", trial.Percent(s.Share)), zap.String("phase", string(s.Phase)))
	// The canary stands first: who has it keeps it when its share grows.
	return r.steering.Set(flags.Split{{Variant: r.Canary, Weight: weight}, {Variant: stable, Weight: flags.Whole - weight}})
}

var (
	_ caddy.Provisioner  = (*Rollout)(nil)
	_ caddy.CleanerUpper = (*Rollout)(nil)
	_ flags.Controller   = (*Rollout)(nil)
)
