package cache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// node tells this process from its peers.
var node = uuid.NewString()

// listening is how long one command waits for orders. The end of a configuration
// waits that long for its listeners.
const listening = 500 * time.Millisecond

// mostOrders is about how many purges Redis remembers for peers that were away.
const mostOrders = 10_000

// peers is a cache's part in telling purges to the other gateways: a stream in
// Redis that each reads from where it stopped. One that was away catches up; one
// that was away for too long drops everything.
type peers struct {
	redis  redis.UniversalClient
	larder *larder
	second *second
	// node is who speaks.
	node string
}

func (p *peers) stream() string { return "sallyport:cache:purges:{" + p.larder.name + "}" }

// tell sends an order to the peers.
func (p *peers) tell(ctx context.Context, o *purge) error {
	if !o.Soft && len(o.URL) > 0 {
		places := make([]string, len(o.URL))
		for i, u := range o.URL {
			places[i] = p.second.place(u)
		}
		for _, place := range places { // one by one: a cluster has them apart
			if err := p.redis.Unlink(ctx, place).Err(); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return p.redis.XAdd(ctx, &redis.XAddArgs{
		Stream: p.stream(), MaxLen: mostOrders, Approx: true, Values: []string{"node", p.node, "order", string(text)},
	}).Err()
}

// listen carries out what peers order, until ctx ends.
func (p *peers) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.follow(ctx); err != nil && ctx.Err() == nil {
			select {
			case <-time.After(breather):
			case <-ctx.Done():
			}
		}
	}
}

func (p *peers) follow(ctx context.Context) error {
	if err := p.checkGap(ctx); err != nil {
		return err
	}
	for {
		last := cmp.Or(p.larder.heard(), "0")
		got, err := p.redis.XRead(ctx, &redis.XReadArgs{Streams: []string{p.stream(), last}, Count: 1000, Block: listening}).Result()
		switch {
		case errors.Is(err, redis.Nil):
			p.larder.current.Store(true)
			return nil // nothing new; look for a gap, then wait again
		case err != nil:
			return err
		}
		for _, m := range got[0].Messages {
			p.carryOut(m)
			p.larder.setHeard(m.ID)
		}
	}
}

// checkGap drops everything if orders were lost since the last one heard:
// because the stream was cut, or Redis lost it.
func (p *peers) checkGap(ctx context.Context) error {
	last := p.larder.heard()
	if last == "" {
		return nil
	}
	oldest, err := p.redis.XRangeN(ctx, p.stream(), "-", "+", 1).Result()
	if err != nil {
		return err
	}
	if len(oldest) > 0 && !later(oldest[0].ID, last) {
		return nil
	}
	p.larder.purge(&purge{All: true}, time.Now(), "peer")
	p.larder.setHeard("")
	p.larder.current.Store(false)
	return nil
}

// margin is how far the clocks of gateways and Redis may be apart.
const margin = 2 * time.Second

// carryOut executes an order. One from before this process read the stream
// concerns only what lies in Redis, and is dated back; a new one strikes all
// that was asked for until now.
func (p *peers) carryOut(m redis.XMessage) {
	text, _ := m.Values["order"].(string)
	var o purge
	if m.Values["node"] == p.node || json.Unmarshal([]byte(text), &o) != nil {
		return
	}
	at := time.Now()
	if !p.larder.current.Load() {
		at = dated(m.ID).Add(margin)
	}
	p.larder.purge(&o, at, "peer")
}

// dated is when Redis took an order.
func dated(id string) time.Time {
	ms, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return time.Now()
	}
	return time.UnixMilli(n)
}

// later compares stream ids.
func later(a, b string) bool {
	am, as, _ := strings.Cut(a, "-")
	bm, bs, _ := strings.Cut(b, "-")
	an, _ := strconv.ParseUint(am, 10, 64)
	bn, _ := strconv.ParseUint(bm, 10, 64)
	if an != bn {
		return an > bn
	}
	aq, _ := strconv.ParseUint(as, 10, 64)
	bq, _ := strconv.ParseUint(bs, 10, 64)
	return aq > bq
}
