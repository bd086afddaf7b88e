package flags

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-feature/go-sdk/openfeature"
)

// Provider gives the flags of the running configuration to whoever asks through
// OpenFeature's client, for the domain "sallyport". The gateway's own matchers
// and placeholders go past the client, straight to the evaluator.
type Provider struct{}

// Metadata implements openfeature.FeatureProvider.
func (*Provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: domain} }

// Hooks implements openfeature.FeatureProvider.
func (*Provider) Hooks() []openfeature.Hook { return nil }

// flat is a caller as OpenFeature describes one.
type flat openfeature.FlattenedContext

// Key implements rules.Caller.
func (f flat) Key() string { return f.Attribute(openfeature.TargetingKey) }

// Attribute implements rules.Caller.
func (f flat) Attribute(name string) string {
	switch v := f[name].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

func (f flat) describe() openfeature.FlattenedContext { return openfeature.FlattenedContext(f) }

func (*Provider) variant(ctx context.Context, flag string, c openfeature.FlattenedContext) (string, openfeature.ProviderResolutionDetail) {
	a := inForce.now.Load()
	if a == nil {
		return "", openfeature.ProviderResolutionDetail{
			ResolutionError: openfeature.NewProviderNotReadyResolutionError("no configuration with flags runs"),
			Reason:          openfeature.ErrorReason,
		}
	}
	got := a.evaluate(ctx, flag, flat(c))
	if got.variant == "" {
		return "", openfeature.ProviderResolutionDetail{
			ResolutionError: openfeature.NewFlagNotFoundResolutionError("no source has the flag, and no default is declared"),
			Reason:          openfeature.ErrorReason,
		}
	}
	return got.variant, openfeature.ProviderResolutionDetail{Variant: got.variant, Reason: openfeature.Reason(strings.ToUpper(got.reason))}
}

func mismatch(d openfeature.ProviderResolutionDetail, variant, want string) openfeature.ProviderResolutionDetail {
	d.ResolutionError = openfeature.NewTypeMismatchResolutionError(fmt.Sprintf("variant '%s' is no %s", variant, want))
	d.Reason = openfeature.ErrorReason
	return d
}

// BooleanEvaluation implements openfeature.FeatureProvider: `on` is true and
// `off` false.
func (p *Provider) BooleanEvaluation(ctx context.Context, flag string, fallback bool, c openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	variant, d := p.variant(ctx, flag, c)
	switch {
	case d.Error() != nil:
		return openfeature.BoolResolutionDetail{Value: fallback, ProviderResolutionDetail: d}
	case variant != on && variant != off:
		return openfeature.BoolResolutionDetail{Value: fallback, ProviderResolutionDetail: mismatch(d, variant, "truth value")}
	}
	return openfeature.BoolResolutionDetail{Value: variant == on, ProviderResolutionDetail: d}
}

// StringEvaluation implements openfeature.FeatureProvider: the variant's name.
func (p *Provider) StringEvaluation(ctx context.Context, flag, fallback string, c openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	variant, d := p.variant(ctx, flag, c)
	if d.Error() != nil {
		variant = fallback
	}
	return openfeature.StringResolutionDetail{Value: variant, ProviderResolutionDetail: d}
}

// ObjectEvaluation implements openfeature.FeatureProvider: the variant's name.
func (p *Provider) ObjectEvaluation(ctx context.Context, flag string, fallback any, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	variant, d := p.variant(ctx, flag, c)
	if d.Error() != nil {
		return openfeature.InterfaceResolutionDetail{Value: fallback, ProviderResolutionDetail: d}
	}
	return openfeature.InterfaceResolutionDetail{Value: variant, ProviderResolutionDetail: d}
}

// FloatEvaluation implements openfeature.FeatureProvider. Variants are names.
func (p *Provider) FloatEvaluation(ctx context.Context, flag string, fallback float64, c openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	variant, d := p.variant(ctx, flag, c)
	if d.Error() == nil {
		d = mismatch(d, variant, "number")
	}
	return openfeature.FloatResolutionDetail{Value: fallback, ProviderResolutionDetail: d}
}

// IntEvaluation implements openfeature.FeatureProvider. Variants are names.
func (p *Provider) IntEvaluation(ctx context.Context, flag string, fallback int64, c openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	variant, d := p.variant(ctx, flag, c)
	if d.Error() == nil {
		d = mismatch(d, variant, "number")
	}
	return openfeature.IntResolutionDetail{Value: fallback, ProviderResolutionDetail: d}
}

var _ openfeature.FeatureProvider = (*Provider)(nil)
