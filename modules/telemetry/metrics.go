package telemetry

import "github.com/prometheus/client_golang/prometheus"

var (
	inFlight = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "sallyport", Name: "http_requests_in_flight",
		Help: "Requests that are being served.",
	})

	coverage = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Name: "coverage_requests_total",
		Help: "Requests that reached a configured route, by the signals that tell of them: both, trace, audit or none.",
	}, []string{"signals"})
	coveredBy = [2][2]prometheus.Counter{
		{coverage.WithLabelValues("none"), coverage.WithLabelValues("audit")},
		{coverage.WithLabelValues("trace"), coverage.WithLabelValues("both")},
	}

	buildInfo = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sallyport", Name: "build_info", Help: "Always 1, labelled with the version that runs.",
		ConstLabels: prometheus.Labels{"version": version()},
	}, func() float64 { return 1 })
)

// collectors are the room's metrics.
func collectors() []prometheus.Collector {
	return []prometheus.Collector{requests{}, inFlight, calls{}, attempts{}, coverage, buildInfo, deliveries{}}
}

func cover(to *route, traced, audited bool) {
	if to == unmatched {
		return
	}
	t, a := 0, 0
	if traced {
		t = 1
	}
	if audited {
		a = 1
	}
	coveredBy[t][a].Inc()
}

// deliveries tells how the export fares, read when scraped.
type deliveries struct{}

var (
	delivered = prometheus.NewDesc("sallyport_telemetry_delivered_total", "Spans, log records, or metrics of an export, that the collector took.", []string{"signal"}, nil)
	dropped   = prometheus.NewDesc("sallyport_telemetry_dropped_total",
		"Those that were given up, by reason: the queue was full, or the collector did not take them.", []string{"signal", "reason"}, nil)
	waiting = prometheus.NewDesc("sallyport_telemetry_waiting", "Spans or log records that wait for delivery.", []string{"signal"}, nil)
)

func (deliveries) Describe(ch chan<- *prometheus.Desc) {
	ch <- delivered
	ch <- dropped
	ch <- waiting
}

func (deliveries) Collect(ch chan<- prometheus.Metric) {
	e := exporting()
	if e == nil {
		return
	}
	for _, l := range e.lanes {
		ch <- prometheus.MustNewConstMetric(delivered, prometheus.CounterValue, float64(l.delivered.Load()), l.signal)
		ch <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(l.dropped.Load()), l.signal, "queue_full")
		ch <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(l.failed.Load()), l.signal, "not_taken")
		ch <- prometheus.MustNewConstMetric(waiting, prometheus.GaugeValue, float64(l.waiting.Load()), l.signal)
	}
}
