package rollout

import (
	"log/slog"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

// roll is the list of rollouts that run in this process.
type roll struct {
	mu  sync.Mutex // guards all
	all []*Rollout
}

var live roll

func (l *roll) join(r *Rollout) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r)
}

func (l *roll) leave(r *Rollout) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(o *Rollout) bool { return o == r })
}

// newest returns the rollouts by name. During a reload there are two of a name;
// the new configuration's counts.
func (l *roll) newest() []*Rollout {
	l.mu.Lock()
	defer l.mu.Unlock()
	byName := make(map[string]*Rollout, len(l.all))
	for _, r := range l.all {
		byName[r.name] = r
	}
	var list []*Rollout
	for _, r := range byName {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *Rollout) int { return strings.Compare(a.name, b.name) })
	return list
}

const eventName = "rollout_changed"

// tell makes a change known: a log line, a metric, a fact for the audit, and an
// event where somebody subscribed to it.
func (r *Rollout) tell(c trial.Change) {
	guard := ""
	level := zap.InfoLevel
	if c.What == "rolled_back" {
		guard, level = c.Reason, zap.WarnLevel // an operator's words are no label
	}
	changesTotal.WithLabelValues(r.FlagName, c.What, guard).Inc()
	if e := r.logger.Check(level, "rollout "+strings.ReplaceAll(c.What, "_", " ")); e != nil {
		e.Write(zap.String("rollout", r.name), zap.String("canary", r.Canary), zap.String("from", trial.Percent(c.From)), zap.String("to", trial.Percent(c.To)),
			zap.String("reason", c.Reason), zap.String("by", c.By), zap.Any("stable_seen", c.Stable), zap.Any("canary_seen", c.Canary))
	}
	exchange.Report(exchange.Fact{Kind: exchange.FlagChanged, Time: c.At, Code: "rollout-" + strings.ReplaceAll(c.What, "_", "-"), Order: c.Order, Attrs: []slog.Attr{
		slog.String("flag", r.FlagName), slog.String("release", r.Release), slog.String("canary", r.Canary),
		slog.String("from", trial.Percent(c.From)), slog.String("to", trial.Percent(c.To)), slog.String("reason", c.Reason),
		slog.Int64("canary_requests", c.Canary.Requests), slog.Int64("canary_failed", c.Canary.Failed), slog.Int64("canary_slow", c.Canary.Slow), slog.Int64("canary_tripped", c.Canary.Tripped),
		slog.Int64("stable_requests", c.Stable.Requests), slog.Int64("stable_failed", c.Stable.Failed), slog.Int64("stable_slow", c.Stable.Slow), slog.Int64("stable_tripped", c.Stable.Tripped),
	}})
	if !r.events.ShouldEmit(eventName) {
		return
	}
	r.events.Emit(r.ctx, eventName, map[string]any{
		"flag": r.FlagName, "release": r.Release, "canary": r.Canary, "change": c.What,
		"from": trial.Percent(c.From), "to": trial.Percent(c.To), "reason": c.Reason, "by": c.By,
		"canary_requests": c.Canary.Requests, "canary_failed": c.Canary.Failed, "stable_requests": c.Stable.Requests, "stable_failed": c.Stable.Failed,
	})
}
