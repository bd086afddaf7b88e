package ratelimit

import (
	"log/slog"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// news is a turn in what is known of one shard of a Redis.
type news struct {
	redis string
	ledger.Change
	at time.Time
}

// newsMost bounds the turns that wait to be told. More are dropped: the
// metrics say what is.
const newsMost = 64

// storeChanged is the name of the event.
const storeChanged = "rate_limit_redis_changed"

func (a *App) hear(n news) {
	select {
	case a.news <- n:
	default:
	}
}

// tell writes down each turn until quit. Subscribers of events may take their
// time, so it is not done where the batches are.
func (a *App) tell() {
	for {
		select {
		case n := <-a.news:
			a.write(n)
		case <-a.quit:
			for len(a.news) > 0 {
				a.write(<-a.news)
			}
			return
		}
	}
}

// write is one log line, one fact, and an event where somebody subscribed to it.
func (a *App) write(n news) {
	level, message, cause := zap.InfoLevel, "", ""
	switch n.To {
	case ledger.Open:
		level, message = zap.WarnLevel, "redis does not answer; each zone does as its on_error says"
	case ledger.Closed:
		message = "redis answers again; what was admitted meanwhile is reported"
	case ledger.Slow:
		level, message = zap.WarnLevel, "redis is slow; adaptive zones do not wait for it"
	default:
		message = "redis is prompt again"
	}
	if n.Cause != nil {
		cause = n.Cause.Error()
	}
	if e := a.logger.Check(level, message); e != nil {
		e.Write(zap.String("redis", n.redis), zap.String("shard", n.Shard), zap.String("cause", cause))
	}
	exchange.Report(exchange.Fact{Kind: exchange.CircuitChanged, Time: n.at, Code: string(n.To), Attrs: []slog.Attr{
		slog.String("breaker", "rate_limit redis "+n.redis), slog.String("upstream", n.Shard), slog.String("reason", cause),
	}})
	if a.events.ShouldEmit(storeChanged) {
		a.events.Emit(a.ctx, storeChanged, map[string]any{"redis": n.redis, "shard": n.Shard, "to": string(n.To), "cause": cause})
	}
}
