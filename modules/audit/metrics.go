package audit

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sallyport", Subsystem: "audit", Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sallyport", Subsystem: "audit", Name: name, Help: help}, labels)
}

var (
	events    = counter("events_total", "Audit events by class and result: accepted, dropped, coalesced, or refused in strict mode.", "class", "result")
	requests  = counter("sink_requests_total", "Batches handed to a sink, by what came of it: delivered, retry, smaller, poison, denied or gone.", "sink", "result")
	delivered = counter("sink_events_total", "Events that a sink has accepted.", "sink")
	dead      = counter("dead_letters_total", "Events that a sink refused for good and that were set aside.", "sink")
	skipped   = counter("sink_skipped_total", "Events that a sink has not got because they were given up.", "sink")
	gaps      = counter("gaps_total", "Gaps written into the stream, by the reason.", "reason")

	lagEvents   = gauge("sink_lag_events", "Events that wait for a sink.", "sink")
	lagSeconds  = gauge("sink_lag_seconds", "Age of the oldest event that waits for a sink.", "sink")
	spoolBytes  = gauge("spool_bytes", "Bytes of events held until every required sink has them.")
	spoolLimit  = gauge("spool_limit_bytes", "Bytes that the events held may take: max_bytes.")
	spoolAge    = gauge("spool_oldest_seconds", "Age of the oldest event held.")
	syncSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "sallyport", Subsystem: "audit", Name: "sync_seconds",
		Help: "How long the disk took to make a group of events durable.", Buckets: instrument.Seconds}, nil)
	syncErrors = counter("sync_errors_total", "Syncs that failed; the group is written again elsewhere.")
	configHash = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sallyport", Name: "config_hash",
		Help: "The first 48 bits of the active configuration's SHA-256: equal on gateways that run the same."}, nil)
	checkpoints = counter("checkpoints_total", "Signed checkpoints of the chain that were written.")
	signedAt    = gauge("checkpoint_timestamp_seconds", "When the last checkpoint was signed, in Unix time.")
	durable     = gauge("durable", "1 while accepted events reach the disk, 0 while they live in memory.")
)

// accepted and its kin are resolved once: a request must not hash labels.
var accepted, dropped, coalesced, unsafe [len(classNames)]prometheus.Counter

func init() {
	// An increase is seen only in a series that was there before it: what an
	// alert asks about begins at zero.
	for _, reason := range []string{"full", "damaged", "skipped", "oldest"} {
		gaps.WithLabelValues(reason)
	}
	for i, name := range classNames {
		accepted[i] = events.WithLabelValues(name, "accepted")
		dropped[i] = events.WithLabelValues(name, "dropped")
		coalesced[i] = events.WithLabelValues(name, "coalesced")
		unsafe[i] = events.WithLabelValues(name, "refused")
	}
}

func register(reg prometheus.Registerer) error {
	return instrument.Register(reg, events, requests, delivered, dead, skipped, gaps, lagEvents, lagSeconds, spoolBytes, spoolLimit, spoolAge, syncSeconds, syncErrors, checkpoints, signedAt, configHash, durable)
}

// ConfigNumber returns what the gauge shows for a ConfigHash: its first 48 bits,
// which a float keeps exactly.
func ConfigNumber(hash string) float64 {
	n, err := strconv.ParseUint(hash[:12], 16, 64)
	if err != nil {
		panic("audit: no configuration's hash: " + hash)
	}
	return float64(n)
}
