package health

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

var up = prometheus.NewDesc("sallyport_dependency_up",
	"Whether a part of the running configuration is ready (1) or not (0), by the name of its readiness check.",
	[]string{"dependency"}, nil)

// dependencies asks at scrape time, through the probes' cache, so that the
// metric is right where nobody probes.
type dependencies struct{}

func (dependencies) Describe(ch chan<- *prometheus.Desc) { ch <- up }

func (dependencies) Collect(ch chan<- prometheus.Metric) {
	results, _ := pulse.check(context.Background())
	for _, res := range results {
		value := 1.0
		if res.err != nil {
			value = 0
		}
		ch <- prometheus.MustNewConstMetric(up, prometheus.GaugeValue, value, res.name)
	}
}
