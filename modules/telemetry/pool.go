package telemetry

import (
	"slices"
	"sync"
	"sync/atomic"

	dto "github.com/prometheus/client_model/go"
)

// standing is the export of one running configuration.
type standing struct {
	*export
	gather func() ([]*dto.MetricFamily, error)
}

var (
	standMu   sync.Mutex // guards writes of standings and current
	standings []*standing
	current   atomic.Pointer[standing]
)

// stand makes s the current export until leave is called. During a reload two
// stand at once: the newer one takes the spans of both, because requests of
// the older configuration may outlive its export.
func stand(s *standing) (leave func()) {
	standMu.Lock()
	defer standMu.Unlock()
	standings = append(standings, s)
	current.Store(s)
	return sync.OnceFunc(func() {
		standMu.Lock()
		defer standMu.Unlock()
		standings = slices.DeleteFunc(standings, func(o *standing) bool { return o == s })
		var newest *standing
		if n := len(standings); n > 0 {
			newest = standings[n-1]
		}
		current.Store(newest)
	})
}

// exporting returns where spans go, or nil.
func exporting() *export {
	if s := current.Load(); s != nil {
		return s.export
	}
	return nil
}

// gather returns the metrics of the current configuration.
func gather() ([]*dto.MetricFamily, error) {
	if s := current.Load(); s != nil {
		return s.gather()
	}
	return nil, nil
}
