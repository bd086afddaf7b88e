package ratelimit

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

var (
	decisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "decisions_total",
		Help:      "Decisions by zone, policy (the tier, or `default`), result (allowed, refused, dry_refused, error) and source (local, redis, deny_cache, fallback).",
	}, []string{"zone", "policy", "result", "source"})

	evictions = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "evictions_total",
		Help:      "Keys dropped from memory before their time because their zone held max_keys.",
	})
)

func register(reg prometheus.Registerer) error {
	return instrument.Register(reg, decisions, evictions)
}
