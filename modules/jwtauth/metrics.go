package jwtauth

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sallyport", Subsystem: "jwt", Name: name, Help: help}, labels)
}

var (
	verifications = counter("verifications_total",
		"Requests by what became of their token: accepted, refused or anonymous. The issuer is empty where the token names none of the route's.",
		"issuer", "result", "reason")
	cacheRequests = counter("cache_requests_total",
		"Lookups of a token among the verified ones, by result: hit or miss.", "issuer", "result")
	fetches = counter("keyset_fetches_total",
		"Fetches of the key set, by result: changed, unchanged or failed.", "issuer", "result")
	fetchErrors = counter("keyset_fetch_errors_total",
		"Fetches of the key set that brought nothing usable, by reason.", "issuer", "reason")
	suppressed = counter("keyset_refetches_suppressed_total",
		"Tokens under an unknown key for which no fetch was due yet.", "issuer")
	revocationErrors = counter("revocation_errors_total",
		"Looks at the revocation file or Redis that failed; what was known before counts.", "issuer")
	streamsEnded = counter("streams_ended_total",
		"Requests that were ended when their token expired.", "issuer")
	anonymous = verifications.WithLabelValues("", "anonymous", "")
)

// counters are an issuer's own children, found once.
type counters struct {
	accepted, cacheHit, cacheMiss, suppressed, lapsed prometheus.Counter
}

func countersOf(name string) counters {
	return counters{
		accepted:   verifications.WithLabelValues(name, "accepted", ""),
		cacheHit:   cacheRequests.WithLabelValues(name, "hit"),
		cacheMiss:  cacheRequests.WithLabelValues(name, "miss"),
		suppressed: suppressed.WithLabelValues(name),
		lapsed:     streamsEnded.WithLabelValues(name),
	}
}

func registerMetrics(reg prometheus.Registerer) error {
	return instrument.Register(reg, verifications, cacheRequests, fetches, fetchErrors, suppressed, revocationErrors, streamsEnded, &running)
}

// running are the issuers of the configurations that run. The age of a key set
// is asked for at the scrape: a gauge that is set by events would stand still
// exactly when they stop coming.
var running ageCollector

type ageCollector struct {
	mu   sync.Mutex // guards list
	list []*Issuer
}

var (
	ageDesc = prometheus.NewDesc("sallyport_jwt_keyset_age_seconds",
		"Time since the issuer last confirmed the key set in use.", []string{"issuer"}, nil)
	successDesc = prometheus.NewDesc("sallyport_jwt_keyset_last_success_timestamp_seconds",
		"When the issuer last confirmed the key set in use.", []string{"issuer"}, nil)
	keysDesc = prometheus.NewDesc("sallyport_jwt_keyset_keys",
		"Keys in use.", []string{"issuer"}, nil)
)

func (c *ageCollector) add(i *Issuer) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, i)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for n, o := range c.list {
			if o == i {
				c.list = append(c.list[:n:n], c.list[n+1:]...)
				return
			}
		}
	}
}

// Describe implements prometheus.Collector.
func (c *ageCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- ageDesc
	ch <- successDesc
	ch <- keysDesc
}

// Collect implements prometheus.Collector. During a reload two configurations
// may have an issuer of one name; the newer one is reported.
func (c *ageCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	newest := make(map[string]*Issuer, len(c.list))
	for _, i := range c.list {
		newest[i.name] = i
	}
	c.mu.Unlock()
	for name, i := range newest {
		if i.source == nil || i.source.IsStatic() {
			continue
		}
		keys := 0
		if snap := i.source.Current(); snap != nil {
			keys = len(snap.Keys)
			ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, time.Since(snap.Fetched).Seconds(), name)
			ch <- prometheus.MustNewConstMetric(successDesc, prometheus.GaugeValue, float64(snap.Fetched.UnixMilli())/1000, name)
		}
		ch <- prometheus.MustNewConstMetric(keysDesc, prometheus.GaugeValue, float64(keys), name)
	}
}
