// Package instrument registers the rooms' collectors with each configuration's
// metrics registry. Collectors are package-level values and outlive a reload,
// so a counter never falls back to zero because of one.
package instrument

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Seconds are the edges of every duration histogram. They hold the service
// objectives' own thresholds: 0.05 for Redis, 0.15 for light routes, 0.2 for
// the autoscaler, 0.3 for proxied routes.
var Seconds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10}

// Register registers each collector unless reg has it already: two handlers of
// one configuration register the same ones.
func Register(reg prometheus.Registerer, collectors ...prometheus.Collector) error {
	for _, c := range collectors {
		err := reg.Register(c)
		if _, known := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !known {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
