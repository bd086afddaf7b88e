// Package flags is the switches: what is on, and for whom. A flag gives each
// caller one variant, the same on every node and after every restart.
package flags

import (
	"fmt"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

// Whole is the weight of everybody: a Share of it is in steps of 0.001 %.
const Whole = rules.Whole

// Share is the part of the callers that get one variant, out of Whole.
type Share = rules.Share

// Split divides the callers; its weights add up to Whole. Callers are dealt to
// the shares in their order, so a variant that stands first keeps those it has
// when its share grows.
type Split []Share

// Check refuses a split that does not give each caller exactly one variant.
func (s Split) Check() error {
	sum, seen := 0, make(map[string]bool, len(s))
	for _, share := range s {
		switch {
		case share.Variant == "":
			return fmt.Errorf("a share names no variant")
		case seen[share.Variant]:
			return fmt.Errorf("variant '%s' has two shares", share.Variant)
		case share.Weight < 0 || share.Weight > Whole:
			return fmt.Errorf("the share of '%s' is %s; it is from 0%% to 100%%", share.Variant, percent(share.Weight))
		}
		seen[share.Variant] = true
		sum += share.Weight
	}
	if sum != Whole {
		return fmt.Errorf("the shares add up to %s, not 100%%", percent(sum))
	}
	return nil
}

// Controller sets the split of one flag while the gateway runs, and hears how
// the requests of each variant end. It is a module of the namespace
// sallyport.flags.controllers; in the Caddyfile, its name is an option of the
// `flags` block. Only flags of our own sources can be steered: those that
// somebody else owns are read.
type Controller interface {
	// Flag names the flag. It is asked after Provision, and a flag has one
	// controller at most.
	Flag() string

	// Start begins the work. It waits for nothing; s is good until Stop. During
	// a reload the next configuration's controller starts before this one stops.
	Start(s Steering) error

	// Finished hears of a request that was given a variant of the flag, once its
	// answer is complete. It runs on the request's goroutine: it must not block
	// and must not keep o.Exchange.
	Finished(o Outcome)

	// Stop ends the work and waits for it.
	Stop()
}

// Steering is a controller's hold on its flag.
type Steering interface {
	// Variants are those that the flag has.
	Variants() []string

	// Split is what is in force for callers that no rule of the flag names: the
	// last one that was Set, also before a reload or a restart, or else the
	// flag's own. It is nil where the flag is off or gives all one variant.
	Split() Split

	// Set puts a split into force with the next request and keeps it over
	// reloads and restarts. It reports no fact: the controller knows who
	// decided and why. Nil gives the flag's own split its force back.
	Set(Split) error
}

// Outcome is how a request ended that was given a variant.
type Outcome struct {
	// Variant is what the request was given.
	Variant string
	// Split says that the split decided, and not a rule for this caller.
	Split bool
	// Status is the answer's HTTP status; 0 where the handlers gave none.
	Status int
	// GRPC is the status code of the answer to a gRPC call, such as `14`; empty
	// for other requests.
	GRPC string
	// Took runs until the answer was complete.
	Took time.Duration
	// Aborted says that the answer broke off, or that the client left.
	Aborted bool
	// Exchange is the request's card: refusals of guards, attempts, fallbacks,
	// the configured route. Valid during the call only.
	Exchange *exchange.Exchange
}

// percent writes a weight as people do.
func percent(weight int) string {
	return fmt.Sprintf("%g%%", float64(weight)*100/Whole)
}
