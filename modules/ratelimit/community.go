package ratelimit

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

// The community's rate_limit plugin is served unchanged: its zones, its event,
// its placeholder and its metrics, whose `key` label stays empty because its
// values came from requests.

var errDistributed = errors.New("rate_limit: distributed and storage are replaced by the redis option: " +
	"write `redis {env.REDIS_URL}` in the global options, and the zones are shared by all gateways")

// communityRule is the plugin's sliding window: at most MaxEvents in any Window.
func (z *Zone) communityRule() *rule {
	r := &rule{kind: slidingLog, tier: "default", limit: float64(z.MaxEvents), burst: float64(z.MaxEvents)}
	r.window = float64(z.Window) / float64(time.Microsecond)
	r.setPolicy(z.name)
	return r
}

func communityCounter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "rate_limit", Name: name, Help: help}, labels)
}

var (
	communityDeclined = communityCounter("declined_requests_total", "Requests that a zone with events and window refused.", "zone", "key")
	communityRequests = communityCounter("requests_total", "Requests that passed a zone with events and window, refused ones included.", "zone", "key")
	communityConfig   = communityCounter("config", "Settings of zones with events and window.", "zone", "max_events", "window", "ipv4_prefix", "ipv6_prefix")
	communityTime     = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "rate_limit", Name: "process_time_seconds",
		Help:    "Time to decide about a request of a zone with events and window.",
		Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1},
	}, []string{"zone", "key"})
	communityKeys = prometheus.NewDesc("caddy_rate_limit_keys_total", "Keys that a zone with events and window remembers.", []string{"zone"}, nil)
)

// communityZones holds the tables of zones in the plugin's form, whose keys its
// metrics count.
var communityZones = caddy.NewUsagePool()

type communityCounts struct{}

func (communityCounts) Describe(ch chan<- *prometheus.Desc) { ch <- communityKeys }

func (communityCounts) Collect(ch chan<- prometheus.Metric) {
	communityZones.Range(func(name, value any) bool {
		if t, made := value.(*table); made {
			ch <- prometheus.MustNewConstMetric(communityKeys, prometheus.GaugeValue, float64(t.keys()), name.(string))
		}
		return true
	})
}

// provisionCommunity registers the plugin's metrics where its zones are used.
func (h *Handler) provisionCommunity(reg prometheus.Registerer) error {
	for _, z := range h.zones {
		if !z.community() || h.DisableMetrics {
			continue
		}
		h.communityMetrics = true
		if _, _, err := communityZones.LoadOrNew(z.name, func() (caddy.Destructor, error) { return z.table, nil }); err != nil {
			return err
		}
		h.communityZones = append(h.communityZones, z.name)
		communityConfig.WithLabelValues(z.name, strconv.Itoa(z.MaxEvents), time.Duration(z.Window).String(),
			strconv.Itoa(z.IPv4Prefix), strconv.Itoa(z.IPv6Prefix)).Inc()
	}
	if !h.communityMetrics {
		return nil
	}
	return instrument.Register(reg, communityDeclined, communityRequests, communityConfig, communityTime, communityCounts{})
}

func (h *Handler) countCommunity(asks []ask, took time.Duration) {
	for i := range asks {
		z := asks[i].zone
		if !z.community() {
			continue
		}
		communityRequests.WithLabelValues(z.name, "").Inc()
		communityTime.WithLabelValues(z.name, "").Observe(took.Seconds())
		if asks[i].wait > 0 {
			communityDeclined.WithLabelValues(z.name, "").Inc()
		}
	}
}

// announce tells whoever the plugin would have told: the placeholder, the
// event, and the log where log_key asks for it.
func (h *Handler) announce(r *http.Request, a *ask, wait time.Duration) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.rate_limit.exceeded.name", a.zone.name)
	}
	emit := h.events != nil && h.events.ShouldEmit("rate_limit_exceeded")
	if !h.LogKey && !emit {
		return
	}
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr
	}
	if h.LogKey {
		h.logger.Info("rate limit exceeded", zap.String("zone", a.zone.name), zap.Duration("wait", wait),
			zap.String("remote_ip", remote), zap.String("key", a.key))
	}
	if emit {
		h.events.Emit(h.ctx, "rate_limit_exceeded", map[string]any{"zone": a.zone.name, "wait": wait, "remote_ip": remote})
	}
}

// jitter lengthens a wait at random, so that those refused together do not come
// back together.
func (h *Handler) jitter(wait time.Duration) time.Duration {
	if h.Jitter <= 0 {
		return wait
	}
	return wait + time.Duration(rand.Float64()*h.Jitter*float64(wait))
}
