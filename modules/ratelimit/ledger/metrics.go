package ledger

import "github.com/prometheus/client_golang/prometheus"

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sallyport", Subsystem: "ratelimit", Name: name, Help: help})
}

var (
	batchSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "sallyport", Subsystem: "ratelimit", Name: "redis_batch_seconds",
		Help:    "Duration of one batch of decisions in Redis, by shard.",
		Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1},
	}, []string{"shard"})
	batchSize = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "sallyport", Subsystem: "ratelimit", Name: "redis_batch_size",
		Help:    "Commands in one batch.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128},
	})
	breakerState = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "sallyport", Subsystem: "ratelimit", Name: "redis_breaker_open",
		Help: "1 while a shard does not answer and is left alone, by shard.",
	}, []string{"shard"})
	brownoutState = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "sallyport", Subsystem: "ratelimit", Name: "redis_brownout",
		Help: "1 while more than one batch in twenty takes over 50 ms, by shard.",
	}, []string{"shard"})
	noscript  = counter("redis_noscript_total", "Commands sent again with the whole script because Redis had forgotten it.")
	ambiguous = counter("redis_ambiguous_total", "Commands of which nobody knows whether they were executed. They are not sent again.")
	forgiven  = counter("debts_forgiven_total", "Keys whose use during an outage was not reported to Redis because there were too many.")
)

// Collectors are the metrics of this package.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{batchSeconds, batchSize, breakerState, brownoutState, noscript, ambiguous, forgiven}
}
