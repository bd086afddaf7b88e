package redispool

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

// Operations take the name that OpenTelemetry gives them. The operation is a
// class of command, never the command's text.
var operations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
	Name:    "db_client_operation_duration_seconds",
	Help:    "Duration of Redis operations as the gateway sees them, by client, class (read, write, script, other, pipeline, dial) and outcome (ok, error).",
	Buckets: append([]float64{0.0001, 0.00025, 0.0005}, instrument.Seconds...),
	ConstLabels: prometheus.Labels{
		"db_system_name": "redis",
	},
}, []string{"client", "db_operation_name", "outcome"})

func register(reg prometheus.Registerer) error {
	return instrument.Register(reg, operations, connections{})
}

// watch times every operation of one client.
type watch struct{ client string }

func (w *watch) observe(class string, began time.Time, err error) {
	outcome := "ok"
	if err != nil && !errors.Is(err, redis.Nil) {
		outcome = "error"
	}
	operations.WithLabelValues(w.client, class, outcome).Observe(time.Since(began).Seconds())
}

func (w *watch) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		began := time.Now()
		conn, err := next(ctx, network, addr)
		w.observe("dial", began, err)
		return conn, err
	}
}

func (w *watch) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		w.observe(classOf(cmd.Name()), began, err)
		return err
	}
}

func (w *watch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		w.observe("pipeline", began, err)
		return err
	}
}

func classOf(command string) string {
	switch command {
	case "get", "mget", "hget", "hgetall", "exists", "lrange", "llen", "zcard", "zrange", "ttl", "pttl", "scan":
		return "read"
	case "set", "setnx", "mset", "hset", "del", "unlink", "expire", "pexpire", "incrby", "lpush", "zadd", "zrem":
		return "write"
	case "eval", "evalsha", "script", "fcall":
		return "script"
	}
	return "other"
}

// connections reports the pools as they are when they are scraped.
type connections struct{}

var (
	connectionsOpen = prometheus.NewDesc("sallyport_redis_connections", "Connections by client and state (idle, used).", []string{"client", "state"}, nil)
	poolWaits       = prometheus.NewDesc("sallyport_redis_pool_timeouts_total", "Times a caller waited in vain for a free connection.", []string{"client"}, nil)
	poolMisses      = prometheus.NewDesc("sallyport_redis_pool_misses_total", "Times no idle connection was there to take.", []string{"client"}, nil)
)

func (connections) Describe(ch chan<- *prometheus.Desc) {
	ch <- connectionsOpen
	ch <- poolWaits
	ch <- poolMisses
}

// Collect adds up clients of one name: during a reload there may be two.
func (connections) Collect(ch chan<- prometheus.Metric) {
	sums := make(map[string]redis.PoolStats)
	clients.Range(func(_, value any) bool {
		c, ok := value.(*Client)
		if !ok {
			return true
		}
		stats, sum := c.redis.PoolStats(), sums[c.name]
		sum.IdleConns += stats.IdleConns
		sum.TotalConns += stats.TotalConns
		sum.Timeouts += stats.Timeouts
		sum.Misses += stats.Misses
		sums[c.name] = sum
		return true
	})
	for name, s := range sums {
		ch <- prometheus.MustNewConstMetric(connectionsOpen, prometheus.GaugeValue, float64(s.IdleConns), name, "idle")
		ch <- prometheus.MustNewConstMetric(connectionsOpen, prometheus.GaugeValue, float64(s.TotalConns)-float64(s.IdleConns), name, "used")
		ch <- prometheus.MustNewConstMetric(poolWaits, prometheus.CounterValue, float64(s.Timeouts), name)
		ch <- prometheus.MustNewConstMetric(poolMisses, prometheus.CounterValue, float64(s.Misses), name)
	}
}

var _ redis.Hook = (*watch)(nil)
