package ledger

import (
	"context"
	cryptorand "crypto/rand"
	_ "embed"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed beat.lua
var beatText string

// keep shows that the gateway lives, follows the cluster's topology and
// collects debts, until quit.
func (l *Ledger) keep(quit <-chan struct{}) {
	candidate := cryptorand.Text()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-quit:
			l.leave()
			return
		case <-l.nudge:
			l.follow()
			l.beat(candidate) // puts back the secret, should Redis come back empty
			l.collect(quit)
			continue
		case <-next.C:
		}
		wait := beat
		l.follow()
		if !l.beat(candidate) && l.Secret() == nil {
			wait = beat / 8 // nobody is served from Redis before it is known
		}
		l.tend(time.Now())
		l.collect(quit) // whoever came just too late for the nudge
		l.first.Do(func() { close(l.asked) })
		next.Reset(wait)
	}
}

func (l *Ledger) nodesKey() string  { return l.prefix + "{gateways}:nodes" }
func (l *Ledger) resetsKey() string { return l.prefix + "{gateways}:resets" }
func (l *Ledger) secretKey() string { return l.prefix + "{gateways}:secret" }

// beat also puts back a secret that Redis has lost, and takes over the one
// that another gateway put there first.
func (l *Ledger) beat(candidate string) bool {
	ctx := context.Background()
	offered := ""
	if l.given == nil {
		offered = candidate
		if s := l.Secret(); s != nil {
			offered = string(s.Value)
		}
	}
	cmd := redis.NewCmd(ctx, "EVAL", beatText, 3, l.nodesKey(), l.secretKey(), l.resetsKey(), l.id, life.Microseconds(), offered)
	if err := l.client.Process(ctx, cmd); err != nil {
		return false
	}
	answer, err := cmd.Slice()
	if err != nil || len(answer) != 3 {
		return false
	}
	alive, _ := answer[0].(int64)
	l.gateways.Store(max(alive, 1))
	if resets, ok := answer[2].(int64); ok {
		l.epoch.Store(resets)
	}
	if secret, _ := answer[1].(string); secret != "" && l.given == nil {
		l.learn([]byte(secret))
	}
	return true
}

// leave says goodbye, so that the others need not wait for life to pass.
func (l *Ledger) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.client.ZRem(ctx, l.nodesKey(), l.id).Err() // whoever cannot is forgotten anyway
}

// follow keeps one lane for each primary of a cluster.
func (l *Ledger) follow() {
	if l.cluster == nil {
		return
	}
	found := make(chan *redis.Client, 1024)
	err := l.cluster.ForEachMaster(context.Background(), func(_ context.Context, node *redis.Client) error {
		found <- node
		return nil
	})
	close(found)
	if err != nil {
		return
	}
	old := *l.lanes.Load()
	lanes := make(map[string]*lane, len(old))
	for node := range found {
		addr := node.Options().Addr
		if way := old[addr]; way != nil && way.client == node {
			lanes[addr] = way
		} else {
			lanes[addr] = l.newLane(addr, node)
		}
	}
	l.lanes.Store(&lanes)
	for addr, way := range old {
		if lanes[addr] != way {
			way.close()
		}
	}
}

// collect sends what was owed, spread over repay so that the shard is not
// greeted with a flood. What still cannot be sent stays owed.
func (l *Ledger) collect(quit <-chan struct{}) {
	l.mu.Lock()
	due := l.debtors
	l.debtors = nil
	l.mu.Unlock()
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	const steps = 20
	for step := range steps {
		from, to := len(due)*step/steps, len(due)*(step+1)/steps
		for _, d := range due[from:to] {
			if !l.Send(d.key, d.command, false) {
				l.Owe(d.key, d.command)
			}
		}
		if to == len(due) {
			return
		}
		select {
		case <-quit:
			return
		case <-time.After(jittered(repay / steps)):
		}
	}
}
