package rollout

import (
	"context"
	"errors"
	"net/http"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

// Finished implements flags.Controller.
func (r *Rollout) Finished(o flags.Outcome) {
	canary := o.Variant == r.Canary
	// Whom a rule gave a variant is not comparable: testers ask other things.
	if !o.Split || !canary && r.Stable != "" && o.Variant != r.Stable || foreign(o) {
		return
	}
	seen := trial.Outcome{Failed: failed(o), Tripped: tripped(o.Exchange), Took: o.Took}
	r.tally.Observe(canary, seen)
	result := "ok"
	if seen.Failed {
		result = "failed"
	}
	requestsTotal.WithLabelValues(r.FlagName, o.Variant, result).Inc()
}

// foreign says that the variant had no part in the answer: a guard refused the
// caller, or the cache knew it already.
func foreign(o flags.Outcome) bool {
	if o.Exchange == nil {
		return false
	}
	switch o.Exchange.Refusal.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return true
	}
	return o.Exchange.Cache.Status == "hit"
}

// failed says whether a request ended as an error, as the alerts count them, or
// broke off on the upstream's side. A caller who hangs up is none.
func failed(o flags.Outcome) bool {
	if o.Status >= 500 || flags.GRPCFault(o.GRPC) {
		return true
	}
	if !o.Aborted || o.Exchange == nil || len(o.Exchange.Attempts) == 0 {
		return false
	}
	err := o.Exchange.Attempts[len(o.Exchange.Attempts)-1].Err
	return err != nil && !errors.Is(err, context.Canceled)
}

// tripped says whether the request met an open circuit.
func tripped(x *exchange.Exchange) bool {
	if x == nil {
		return false
	}
	if x.FallbackReason == "circuit-open" || x.Refusal.Code == "circuit-open" {
		return true
	}
	for _, n := range x.Notes {
		if n.Key == "breaker.state" {
			return n.Value == "open"
		}
	}
	return false
}
