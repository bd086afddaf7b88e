package cache

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Subsystem: "cache", Name: name, Help: help,
	}, labels)
}

var (
	requests = counter("requests_total",
		"Requests by cache, status (hit, miss, stale, revalidated, collapsed, bypass) and reason (of a bypass, or why a miss was not kept).",
		"cache", "status", "reason")
	routes = counter("route_requests_total",
		"Requests by cache, configured route and result (hit: answered by what was kept; miss; bypass).", "cache", "route", "result")
	bytesOut = counter("body_bytes_total",
		"Bytes of bodies sent, by cache and source (store, upstream).", "cache", "source")
	saved = counter("saved_seconds_total",
		"Time that upstreams took for the answers that were then served from the store, by cache.", "cache")
	background = counter("background_total",
		"Revalidations in the background, by cache and result (done, failed, dropped).", "cache", "result")
	purged = counter("purges_total",
		"Purges by cache, kind (url, prefix, key, tag, all) and source (admin, write, peer).", "cache", "kind", "source")
	evictions = counter("evictions_total",
		"Entries that had to go because the store was full, by cache.", "cache")
	secondTier = counter("redis_total",
		"What became of objects in Redis, by cache and result (hit, miss, stored, dropped, unusable, error).", "cache", "result")
	weights = &gauge{
		desc:  prometheus.NewDesc("sallyport_cache_bytes", "Bytes that the store holds, by cache.", []string{"cache"}, nil),
		count: prometheus.NewDesc("sallyport_cache_keys", "Keys that the store holds, by cache.", []string{"cache"}, nil),
		held:  make(map[*larder]string),
	}
)

func register(reg prometheus.Registerer) error {
	return instrument.Register(reg, requests, routes, bytesOut, saved, background, purged, evictions, secondTier, weights)
}

// gauge asks the stores how full they are when the metrics are read.
type gauge struct {
	desc, count *prometheus.Desc
	mu          sync.Mutex // guards held
	held        map[*larder]string
}

func (g *gauge) add(name string, l *larder) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held[l] = name
}

func (g *gauge) drop(l *larder) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, l)
}

// Describe and Collect make gauge a Collector.
func (g *gauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc; ch <- g.count }

// Collect sums up by name: during a reload that changes a size there are two
// stores of one.
func (g *gauge) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bytes, keys := make(map[string]int64), make(map[string]int)
	for l, name := range g.held {
		bytes[name] += l.memory.Weight()
		keys[name] += l.memory.Len()
	}
	for _, name := range slices.Sorted(maps.Keys(bytes)) {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(bytes[name]), name)
		ch <- prometheus.MustNewConstMetric(g.count, prometheus.GaugeValue, float64(keys[name]), name)
	}
}

// meter holds the counters of one handler, looked up once.
type meter struct {
	name                                           string
	hit, miss, stale, revalidated, collapsed       prometheus.Counter
	fromStore, fromUpstream, saved                 prometheus.Counter
	backgroundDone, backgroundFailed, backgroundNo prometheus.Counter

	mu sync.Mutex // guards writes of byRoute
	// byRoute holds a count for each configured route, so no more than there are.
	byRoute atomic.Pointer[map[string]*routeCount]
}

// routeCount counts the requests of one route.
type routeCount struct{ hit, miss, bypass prometheus.Counter }

func newMeter(name string) *meter {
	m := &meter{
		name:             name,
		hit:              requests.WithLabelValues(name, "hit", ""),
		miss:             requests.WithLabelValues(name, "miss", ""),
		stale:            requests.WithLabelValues(name, "stale", ""),
		revalidated:      requests.WithLabelValues(name, "revalidated", ""),
		collapsed:        requests.WithLabelValues(name, "collapsed", ""),
		fromStore:        bytesOut.WithLabelValues(name, "store"),
		fromUpstream:     bytesOut.WithLabelValues(name, "upstream"),
		saved:            saved.WithLabelValues(name),
		backgroundDone:   background.WithLabelValues(name, "done"),
		backgroundFailed: background.WithLabelValues(name, "failed"),
		backgroundNo:     background.WithLabelValues(name, "dropped"),
	}
	m.byRoute.Store(new(map[string]*routeCount))
	return m
}

func (m *meter) route(name string) *routeCount {
	if c := (*m.byRoute.Load())[name]; c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.byRoute.Load()
	if c := known[name]; c != nil {
		return c
	}
	c := &routeCount{
		hit:    routes.WithLabelValues(m.name, name, "hit"),
		miss:   routes.WithLabelValues(m.name, name, "miss"),
		bypass: routes.WithLabelValues(m.name, name, "bypass"),
	}
	more := maps.Clone(known)
	if more == nil {
		more = make(map[string]*routeCount)
	}
	more[name] = c
	m.byRoute.Store(&more)
	return c
}

// count counts a request once its status is known.
func (m *meter) count(route, status, reason string) {
	switch c := m.route(route); status {
	case "miss":
		c.miss.Inc()
	case "bypass":
		c.bypass.Inc()
	default:
		c.hit.Inc()
	}
	if reason != "" {
		requests.WithLabelValues(m.name, status, reason).Inc()
		return
	}
	switch status {
	case "hit":
		m.hit.Inc()
	case "miss":
		m.miss.Inc()
	case "stale":
		m.stale.Inc()
	case "revalidated":
		m.revalidated.Inc()
	case "collapsed":
		m.collapsed.Inc()
	}
}

func (m *meter) save(d time.Duration) { m.saved.Add(d.Seconds()) }
