package flags

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

var (
	evaluationsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Subsystem: "flags", Name: "evaluations_total",
		Help: "Evaluations by flag, variant and reason (static, targeting_match, split, disabled, default, cached, unknown, error).",
	}, []string{"flag", "variant", "reason"})
	changesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Subsystem: "flags", Name: "changes_total",
		Help: "Changes of flags that this gateway made or noticed, by source.",
	}, []string{"source"})
	requestSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "sallyport", Subsystem: "flags", Name: "request_duration_seconds",
		Help:    "Duration of requests on routes with the flags directive, by the variant they were given and how they ended (ok, error, refused, aborted).",
		Buckets: instrument.Seconds,
	}, []string{"flag", "variant", "outcome"})
	sourceUp = prometheus.NewDesc("sallyport_flags_source_up",
		"Whether a source of flags can be asked and what it says is in force.", []string{"source"}, nil)
	sourceHeard = prometheus.NewDesc("sallyport_flags_source_heard_timestamp_seconds",
		"When a source of flags last confirmed what is known of it, in Unix time.", []string{"source"}, nil)
)

// current is the app of the newest configuration, and those that it replaces
// while both run.
type current struct {
	mu   sync.Mutex // guards apps
	apps []*App
	set  bool
	now  atomic.Pointer[App]
}

var inForce current

// domain is under which name other modules of the build reach our flags through
// OpenFeature's own client.
const domain = "sallyport"

func (c *current) bind(a *App) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.set {
		if err := openfeature.SetNamedProviderAndWait(domain, &Provider{}); err != nil {
			return err
		}
		c.set = true
	}
	c.apps = append(c.apps, a)
	c.now.Store(a)
	return nil
}

func (c *current) unbind(a *App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apps = slices.DeleteFunc(c.apps, func(o *App) bool { return o == a })
	if n := len(c.apps); n > 0 {
		c.now.Store(c.apps[n-1])
	} else {
		c.now.Store(nil)
	}
}

// Describe implements prometheus.Collector.
func (*current) Describe(ch chan<- *prometheus.Desc) {
	ch <- sourceUp
	ch <- sourceHeard
}

// Collect reports the sources as they are when they are scraped.
func (c *current) Collect(ch chan<- prometheus.Metric) {
	a := c.now.Load()
	if a == nil {
		return
	}
	for _, h := range a.sources {
		s, up := h.source.State(), 1.0
		if s.Err != nil {
			up = 0
		}
		ch <- prometheus.MustNewConstMetric(sourceUp, prometheus.GaugeValue, up, h.name)
		if !s.Heard.IsZero() {
			ch <- prometheus.MustNewConstMetric(sourceHeard, prometheus.GaugeValue, float64(s.Heard.UnixMilli())/1000, h.name)
		}
	}
}

// most bounds what labels a process makes: of flags that a configuration names
// in placeholders, and of variants that somebody else's source thinks of.
const (
	mostFlags    = 1000
	mostVariants = 50
	other        = "other"
)

// meters holds the counters of each flag, so that counting looks nothing up by
// its labels.
type meters struct {
	mu    sync.Mutex // guards writes of flags
	flags atomic.Pointer[map[string]*meter]
}

type meter struct {
	note  string // the key of the exchange's note
	label string
	mu    sync.Mutex // guards writes of tally
	tally atomic.Pointer[[]counted]
}

type counted struct {
	variant, reason string
	counter         prometheus.Counter
}

func (m *meters) of(flag string) *meter {
	if all := m.flags.Load(); all != nil {
		if one, ok := (*all)[flag]; ok {
			return one
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[string]*meter)
	if all := m.flags.Load(); all != nil {
		if one, ok := (*all)[flag]; ok {
			return one
		}
		for name, one := range *all {
			next[name] = one
		}
	}
	one := &meter{note: "flag." + flag, label: flag}
	if len(next) >= mostFlags {
		return &meter{note: one.note, label: other}
	}
	next[flag] = one
	m.flags.Store(&next)
	return one
}

func (m *meter) count(variant, reason string) {
	if list := m.tally.Load(); list != nil {
		for i := range *list {
			if c := &(*list)[i]; c.variant == variant && c.reason == reason {
				c.counter.Inc()
				return
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var next []counted
	if list := m.tally.Load(); list != nil {
		next = slices.Clone(*list)
	}
	if len(next) >= mostVariants {
		evaluationsTotal.WithLabelValues(m.label, other, reason).Inc()
		return
	}
	c := counted{variant, reason, evaluationsTotal.WithLabelValues(m.label, variant, reason)}
	c.counter.Inc()
	m.tally.Store(new(append(next, c)))
}

// labelOf is the variant as a label, bounded like the tally.
func (m *meter) labelOf(variant string) string {
	if list := m.tally.Load(); list != nil {
		for i := range *list {
			if (*list)[i].variant == variant {
				return variant
			}
		}
	}
	return other
}
