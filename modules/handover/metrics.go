package handover

import "github.com/prometheus/client_golang/prometheus"

var passed = prometheus.NewCounter(prometheus.CounterOpts{
	Namespace: "sallyport",
	Name:      "handover_connections_total",
	Help:      "Client connections that went on with the next configuration.",
})
