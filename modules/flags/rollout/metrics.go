package rollout

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Subsystem: "rollout", Name: name, Help: help,
	}, labels)
}

var (
	requestsTotal = counter("requests_total",
		"Requests that were compared, by the variant they got and how they ended: ok or failed.",
		"flag", "variant", "result")
	changesTotal = counter("changes_total",
		"Steps of rollouts, told by the gateway that took them: started, promoted, completed, rolled_back, aborted, paused, resumed.",
		"flag", "change", "reason")
	stepsFailed = counter("failures_total",
		"Times a gateway could not reach the others' state or put a share into force. The share stays as it is.",
		"flag")

	shareDesc = prometheus.NewDesc("sallyport_rollout_share",
		"Share of the callers who get the canary, from 0 to 1, as this gateway knows it.", []string{"flag", "release"}, nil)
	phaseDesc = prometheus.NewDesc("sallyport_rollout_phase",
		"Phase of a rollout: 1 for the one it is in.", []string{"flag", "release", "phase"}, nil)
	evidenceDesc = prometheus.NewDesc("sallyport_rollout_evidence",
		"Evidence against the canary, from 0 for none to 1, at which it is taken back.", []string{"flag", "release"}, nil)
	leaderDesc = prometheus.NewDesc("sallyport_rollout_decides",
		"1 on the gateway that decides.", []string{"flag", "release"}, nil)
)

// gauges reads the rollouts of the running configurations when scraped.
type gauges struct{}

// Describe implements prometheus.Collector.
func (gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- shareDesc
	ch <- phaseDesc
	ch <- evidenceDesc
	ch <- leaderDesc
}

// Collect implements prometheus.Collector.
func (gauges) Collect(ch chan<- prometheus.Metric) {
	for _, r := range live.newest() {
		s, leads := r.conductor.view()
		if s.Seq == 0 {
			continue
		}
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{r.FlagName, r.Release}, labels...)...)
		}
		gauge(shareDesc, s.Share)
		for _, phase := range []trial.Phase{trial.Running, trial.Paused, trial.Done, trial.Aborted} {
			gauge(phaseDesc, oneIf(s.Phase == phase), string(phase))
		}
		_, evidence := s.Suspected(&r.plan)
		gauge(evidenceDesc, evidence)
		gauge(leaderDesc, oneIf(leads))
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func register(reg prometheus.Registerer) error {
	return instrument.Register(reg, gauges{}, requestsTotal, changesTotal, stepsFailed)
}
