package breaker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Subsystem: "breaker", Name: name, Help: help,
	}, labels)
}

var (
	resultsTotal = counter("results_total",
		"Upstream attempts by what they say about the upstream: success, failure, or ignored.",
		"breaker", "upstream", "class")
	transitionsTotal = counter("transitions_total",
		"Changes of state of a circuit.",
		"breaker", "upstream", "from", "to", "reason")
	refusedTotal = counter("refused_total",
		"Requests that were refused, or in shadow mode would have been.",
		"breaker", "mode", "reason")
	probesTotal = counter("probes_total",
		"Requests that decided about a half-open circuit, by their result.",
		"breaker", "upstream", "class")
	fallbacksTotal = counter("fallbacks_total",
		"Requests answered in the upstream's place, by the kind of fallback and whether it worked.",
		"breaker", "kind", "result")
	retriesTotal = counter("retries_total",
		"Retries that were sent, and those that the retry budget refused.",
		"breaker", "result")
	hedgesTotal = counter("hedges_total",
		"Second attempts for slow requests, by whether they won, and those that the retry budget refused.",
		"breaker", "result")
	sendsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Subsystem: "breaker", Name: "sends_total",
		Help: "Requests sent to upstreams: forwarded lean, by reverse_proxy directly on the request's own goroutine, or by its stock transport.",
	}, []string{"path"})
	sentLean, sentDirect, sentStock = sendsTotal.WithLabelValues(leanWay), sendsTotal.WithLabelValues(directWay), sendsTotal.WithLabelValues(stockWay)
	droppedTotal                    = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "sallyport", Subsystem: "breaker", Name: "announcements_dropped_total",
		Help: "Changes of state that were not logged or reported because too many came at once.",
	})

	stateDesc = prometheus.NewDesc("sallyport_breaker_state",
		"State of a circuit: 1 for the one it is in.", []string{"breaker", "upstream", "state"}, nil)
	circuitsDesc = prometheus.NewDesc("sallyport_breaker_circuits",
		"Circuits of a policy by state, those of dynamic upstreams included.", []string{"breaker", "state"}, nil)
	insideDesc = prometheus.NewDesc("sallyport_breaker_concurrency",
		"Requests on their way, by whether they have a place or wait for one, where concurrency is bounded.", []string{"breaker", "upstreams", "where"}, nil)
	limitDesc = prometheus.NewDesc("sallyport_breaker_concurrency_limit",
		"How many requests may be on their way at a time.", []string{"breaker", "upstreams"}, nil)
	tokensDesc = prometheus.NewDesc("sallyport_breaker_retry_budget_tokens",
		"Retries that the budget would allow now.", []string{"breaker", "upstreams"}, nil)
)

// Describe implements prometheus.Collector.
func (a *App) Describe(ch chan<- *prometheus.Desc) {
	ch <- stateDesc
	ch <- circuitsDesc
	ch <- insideDesc
	ch <- limitDesc
	ch <- tokensDesc
}

// Collect reads the state of this configuration's circuits when scraped.
func (a *App) Collect(ch chan<- prometheus.Metric) {
	sums := make(map[string]map[circuit.State]int)
	count := func(t *tracked) {
		if sums[t.policy] == nil {
			sums[t.policy] = make(map[circuit.State]int)
		}
		sums[t.policy][t.State()]++
	}
	circuits, herds := a.members()
	for _, t := range circuits {
		count(t)
		now := t.State()
		for _, s := range circuit.States() {
			value := 0.0
			if s == now {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, value, t.policy, t.upstream, s.String())
		}
	}
	for _, h := range herds {
		for _, t := range *h.byDial.Load() {
			count(t)
		}
	}
	a.collectRoutes(ch)
	for policy, byState := range sums {
		for _, s := range circuit.States() {
			ch <- prometheus.MustNewConstMetric(circuitsDesc, prometheus.GaugeValue, float64(byState[s]), policy, s.String())
		}
	}
}

func (a *App) collectRoutes(ch chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := make(map[[2]string]bool, len(a.routes))
	for r, h := range a.routes {
		policy, to := h.Policy.Name, h.destination
		if said[[2]string{policy, to}] {
			continue // two dynamic sources look alike; a series may stand once
		}
		said[[2]string{policy, to}] = true
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{policy, to}, labels...)...)
		}
		gauge(tokensDesc, float64(r.purse.held.Load())/oneRetry)
		if h.Concurrency == nil {
			continue
		}
		gauge(insideDesc, float64(r.place.inside.Load()), "inside")
		gauge(insideDesc, float64(r.place.waiting.Load()), "waiting")
		gauge(limitDesc, float64(r.place.limit(h.Concurrency)))
	}
}

func (a *App) register(reg prometheus.Registerer) error {
	return instrument.Register(reg, a, resultsTotal, transitionsTotal, refusedTotal, probesTotal, fallbacksTotal, retriesTotal, hedgesTotal, sendsTotal, droppedTotal)
}
