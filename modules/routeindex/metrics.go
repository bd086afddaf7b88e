package routeindex

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// count says how the routes of a server are found.
type count struct {
	// indexed are looked up, walked are asked in turn although their list has an
	// index, short stand in lists that need none, left are the top-level routes
	// of a server that is left to Caddy.
	indexed, walked, short, left int
}

// gauge shows the count of one server of one configuration.
type gauge struct {
	desc *prometheus.Desc

	mu    sync.Mutex // guards known and count
	known bool       // the server has started
	count count
}

func newGauge(server string) *gauge {
	return &gauge{desc: prometheus.NewDesc("sallyport_route_index_routes",
		"Routes of a server by how a request finds them: looked up (indexed), asked in turn (walked), in a short list (short), left to Caddy (left).",
		[]string{"way"}, prometheus.Labels{"server": server})}
}

func (g *gauge) set(c count) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known, g.count = true, c
}

// Describe implements prometheus.Collector.
func (g *gauge) Describe(descs chan<- *prometheus.Desc) { descs <- g.desc }

// Collect implements prometheus.Collector.
func (g *gauge) Collect(metrics chan<- prometheus.Metric) {
	g.mu.Lock()
	known, c := g.known, g.count
	g.mu.Unlock()
	if !known {
		return
	}
	for _, way := range []struct {
		name string
		n    int
	}{{"indexed", c.indexed}, {"walked", c.walked}, {"short", c.short}, {"left", c.left}} {
		metrics <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(way.n), way.name)
	}
}
