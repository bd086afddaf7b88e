package reject

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

var refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "sallyport",
	Name:      "refusals_total",
	Help:      "Requests that a guard refused, by the guard and the stable code of the reason.",
}, []string{"room", "code"})

// Register registers the refusal counter; every guard calls it in Provision.
func Register(reg prometheus.Registerer) error {
	return instrument.Register(reg, refusals)
}
