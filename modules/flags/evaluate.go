package flags

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

// on and off are the variants of a flag that is true or false.
const (
	on  = "on"
	off = "off"
)

// answer is what a caller was given. An empty variant means that nothing is
// known of the flag.
type answer struct {
	variant string
	// reason is one of OpenFeature's, as it is written in telemetry.
	reason string
	// split says that the split decided, not a rule.
	split bool
}

// asker is a caller who can also be described to a source of others.
type asker interface {
	rules.Caller
	describe() openfeature.FlattenedContext
}

// ours returns the flag's rules from the first source of our own that has it,
// and whether a remote source stands before it.
func (a *App) ours(flag string) (*rules.Flag, bool) {
	remote := false
	for i := range a.sources {
		h := &a.sources[i]
		if h.ruled == nil {
			remote = true
			continue
		}
		if set := h.ruled.Rules(); set != nil {
			if f := set.Flags[flag]; f != nil {
				return f, remote
			}
		}
	}
	return nil, remote
}

// evaluate asks the sources in their order, then what a controller has set, then
// the declared default.
func (a *App) evaluate(ctx context.Context, flag string, c asker) answer {
	f, remote := a.ours(flag)
	if remote {
		if got, ok := a.ask(ctx, flag, f, c); ok {
			return got
		}
	}
	var steered Split
	if f == nil || a.controllers[flag] != nil {
		steered = a.split(flag)
	}
	switch {
	case f != nil:
		variant, why := f.Evaluate(c, steered)
		return answer{variant, why.String(), why == rules.Dealt}
	case steered != nil:
		return answer{rules.Deal(flag, c.Key(), steered), rules.Dealt.String(), true}
	case a.Defaults[flag] != "":
		return answer{variant: a.Defaults[flag], reason: reasonDefault}
	}
	return answer{reason: reasonError}
}

// split is what this configuration's controller of the flag has set.
func (a *App) split(flag string) Split {
	if a.controllers[flag] == nil {
		return nil
	}
	return a.board.split(flag)
}

// ask asks the remote sources that stand before the one that f is of.
func (a *App) ask(ctx context.Context, flag string, f *rules.Flag, c asker) (answer, bool) {
	for i := range a.sources {
		h := &a.sources[i]
		if h.ruled != nil {
			if set := h.ruled.Rules(); set != nil && f != nil && set.Flags[flag] == f {
				return answer{}, false
			}
			continue
		}
		d := h.remote.Provider().ObjectEvaluation(ctx, flag, nil, c.describe())
		if d.Error() != nil || d.Value == nil {
			continue
		}
		return answer{variant: nameOfValue(d), reason: reasonOf(d.Reason)}, true
	}
	return answer{}, false
}

const (
	reasonDefault = "default"
	reasonError   = "error"
	reasonUnknown = "unknown"
)

// reasonOf is a source's reason as a label, of which there are few.
func reasonOf(r openfeature.Reason) string {
	switch r {
	case openfeature.StaticReason, openfeature.TargetingMatchReason, openfeature.SplitReason,
		openfeature.DisabledReason, openfeature.DefaultReason, openfeature.CachedReason:
		return strings.ToLower(string(r))
	}
	return reasonUnknown
}

// nameOfValue is by what name the gateway calls a value.
func nameOfValue(d openfeature.InterfaceResolutionDetail) string {
	switch v := d.Value.(type) {
	case bool:
		if v {
			return on
		}
		return off
	case string:
		return v
	}
	if d.Variant != "" {
		return d.Variant
	}
	return fmt.Sprint(d.Value)
}
