package ratelimit

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

var (
	decisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "decisions_total",
		Help:      "Decisions by zone, policy (the tier, or `default`), result (allowed, refused, dry_refused, error) and source (local, redis, deny_cache, fallback).",
	}, []string{"zone", "policy", "result", "source"})

	overshoot = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "overshoot_tokens",
		Help:      "Tokens beyond the burst that gateways together had admitted when Redis heard of it.",
		Buckets:   []float64{1, 2, 5, 10, 20, 50, 100, 1000},
	})

	waitSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "wait_seconds",
		Help:      "How long requests waited for a decision of Redis.",
		Buckets:   []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05},
	})

	audited = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "audited_total",
		Help:      "Refusals without asking Redis that were checked with it afterwards: one in a thousand.",
	})

	falsePositives = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "false_positives_total",
		Help:      "Audited refusals that Redis would have admitted.",
	})

	evictions = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "evictions_total",
		Help:      "Keys dropped from memory before their time because their zone held max_keys.",
	})

	overflows = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport",
		Subsystem: "ratelimit",
		Name:      "overflows_total",
		Help:      "Requests that were counted with their network because the new_keys of their zone were used up.",
	}, []string{"zone"})

	keysDesc = prometheus.NewDesc("sallyport_ratelimit_keys", "Keys that a zone remembers in memory.", []string{"zone"}, nil)
)

// keyCounts counts the keys when they are scraped.
type keyCounts struct{}

func (keyCounts) Describe(ch chan<- *prometheus.Desc) { ch <- keysDesc }

func (keyCounts) Collect(ch chan<- prometheus.Metric) {
	tables.Range(func(name, value any) bool {
		if t, made := value.(*table); made {
			ch <- prometheus.MustNewConstMetric(keysDesc, prometheus.GaugeValue, float64(t.keys()), name.(string))
		}
		return true
	})
}

func register(reg prometheus.Registerer) error {
	if err := instrument.Register(reg, ledger.Collectors()...); err != nil {
		return err
	}
	return instrument.Register(reg, decisions, evictions, overflows, keyCounts{}, overshoot, waitSeconds, audited, falsePositives)
}
