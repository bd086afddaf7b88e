// Package jwtauth is the door: it verifies who is asking by the token the
// request carries, and refuses what it cannot verify.
package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(new(Issuers))
	httpcaddyfile.RegisterGlobalOption("issuer", parseIssuer)
}

// Issuers is the app that holds every token issuer of the configuration. The
// routes share them: one key set, one refresh, one cache of verified tokens
// each.
type Issuers struct {
	// Issuers are the issuers by the name that `jwt` calls them.
	Issuers map[string]*Issuer `json:"issuers,omitempty"`

	detach []func()
	log    *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Issuers) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "sallyport_issuers",
		New: func() caddy.Module { return new(Issuers) },
	}
}

// Provision reads keys that come with the configuration and acquires the
// sources of the others, without asking anybody for a key.
func (a *Issuers) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	for _, name := range a.names() {
		if a.Issuers[name] == nil {
			return fmt.Errorf("issuer %s: null", name)
		}
		if err := a.Issuers[name].provision(ctx, name); err != nil {
			return fmt.Errorf("issuer %s: %w", name, err)
		}
	}
	return nil
}

// Start begins to keep the key sets fresh. It waits for the sets of issuers
// with `startup require`, and for the others a moment, so that a gateway whose
// issuers answer begins with their keys.
func (a *Issuers) Start() error {
	for _, name := range a.names() {
		a.detach = append(a.detach, a.Issuers[name].start(a.log))
	}
	moment, cancel := context.WithTimeout(context.Background(), lazyMoment)
	defer cancel()
	for _, name := range a.names() {
		if err := a.Issuers[name].await(moment); err != nil {
			// Caddy stops what has started, but not the app that fails.
			return errors.Join(fmt.Errorf("issuer %s: %w", name, err), a.Stop())
		}
	}
	return nil
}

// lazyMoment is how long a start waits for keys that it does not require.
const lazyMoment = time.Second

// Stop leaves the key sets to whoever else holds them.
func (a *Issuers) Stop() error {
	for _, detach := range a.detach {
		detach()
	}
	a.detach = nil
	return nil
}

// Cleanup releases the sources.
func (a *Issuers) Cleanup() error {
	var errs []error
	for _, name := range a.names() {
		if i := a.Issuers[name]; i != nil {
			errs = append(errs, i.release())
		}
	}
	return errors.Join(errs...)
}

// Ready says which issuer's keys are not to be had, or else which are stale.
func (a *Issuers) Ready(context.Context) error {
	var stale error
	for _, name := range a.names() {
		err := a.Issuers[name].ready(time.Now())
		if d := (staleError{}); errors.As(err, &d) {
			stale = errors.Join(stale, err)
		} else if err != nil {
			return err
		}
	}
	if stale != nil {
		return staleError{stale.Error()}
	}
	return nil
}

// staleError says that old keys still serve.
type staleError struct{ text string }

func (e staleError) Error() string { return e.text }

// Degraded says that requests are served all the same.
func (staleError) Degraded() bool { return true }

func (a *Issuers) names() []string { return slices.Sorted(maps.Keys(a.Issuers)) }

// named returns the issuers of those names.
func (a *Issuers) named(names []string) ([]*Issuer, error) {
	var list []*Issuer
	for _, n := range names {
		i := a.Issuers[n]
		if i == nil {
			return nil, fmt.Errorf("issuer '%s' does not exist; the issuers are: %s", n, orNone(a.names()))
		}
		list = append(list, i)
	}
	return list, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

var (
	_ caddy.App          = (*Issuers)(nil)
	_ caddy.Provisioner  = (*Issuers)(nil)
	_ caddy.CleanerUpper = (*Issuers)(nil)
)
