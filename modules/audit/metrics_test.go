package audit

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// `increase` knows nothing of a series' first value: an alert on losses is
// blind to the first one where its series begins with it.
func TestCountersOfLossBeginAtZero(t *testing.T) {
	newDelivery(nil, "never-lost", spool.Mark{})
	reg := prometheus.NewRegistry()
	if err := register(reg); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				found[f.GetName()+" "+l.GetValue()] = true
			}
		}
	}
	for _, want := range []string{
		"sallyport_audit_gaps_total full", "sallyport_audit_gaps_total damaged", "sallyport_audit_gaps_total skipped",
		"sallyport_audit_gaps_total oldest", "sallyport_audit_dead_letters_total never-lost", "sallyport_audit_sink_skipped_total never-lost",
	} {
		if !found[want] {
			t.Errorf("no series %s before anything is lost", want)
		}
	}
}
