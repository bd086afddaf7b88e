package telemetry

import (
	"math"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// takesAll says whether a sampler takes every request that continues no trace.
// To ask it about each of them costs as much as to write the span down.
func takesAll(s sdktrace.Sampler) bool {
	name := s.Description()
	return name == sdktrace.AlwaysSample().Description() || strings.HasPrefix(name, "ParentBased{root:AlwaysOnSampler,")
}

// sampler returns the SDK's sampler of that name. The SDK would read the
// environment itself, and go on with a default where a value means nothing.
func (e *environment) sampler(name string, ratio *float64) sdktrace.Sampler {
	name = first(name, e.getenv("OTEL_TRACES_SAMPLER"), "parentbased_always_on")
	kind, parent := strings.CutPrefix(name, "parentbased_")
	var s sdktrace.Sampler
	switch kind {
	case "always_on":
		s = sdktrace.AlwaysSample()
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		share := 1.0
		if ratio != nil {
			share = *ratio
		} else if text := e.getenv("OTEL_TRACES_SAMPLER_ARG"); text != "" {
			parsed, err := strconv.ParseFloat(text, 64)
			if err != nil {
				parsed = math.NaN()
			}
			share = parsed
		}
		if !(share >= 0 && share <= 1) {
			e.fail("the sampler's ratio is a number from 0 to 1")
			share = 1
		}
		s = sdktrace.TraceIDRatioBased(share)
	default:
		e.fail("the sampler is always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio, not '%s'", name)
		return nil
	}
	if parent {
		return sdktrace.ParentBased(s)
	}
	return s
}
