// Package redis is a source of flags that all gateways share: rules in Redis,
// written through the admin API of any gateway and with the others at once.
package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	caddy.RegisterModule(new(Source))
}

// Source is flags in Redis:
//
//	sallyport:flags:{<set>}:rules    hash: flag → record
//	sallyport:flags:{<set>}:version  counter of the writes
//	sallyport:flags:{<set>}:news     stream that gateways wait on
//
// A gateway that cannot reach Redis goes on with what it knows. Where Redis
// comes back with less than a gateway knows, it is given that back.
type Source struct {
	// Client is the name of a `redis` option. Default: `default`.
	Client string `json:"client,omitempty"`
	// Set tells apart flags of gateways that share a Redis. Default: `default`.
	Set string `json:"set,omitempty"`

	client *redispool.Client
	desk   *flags.Desk
	rules  atomic.Pointer[rules.Set]
	state  atomic.Pointer[flags.State]

	reading sync.Mutex // lets one read of Redis run at a time; guards what follows
	known   kept
	failed  string // what was wrong last, so that it is said once
	told    bool   // that the baseline is known

	cancel context.CancelFunc
	done   sync.WaitGroup
}

// CaddyModule returns the Caddy module information.
func (*Source) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.flags.sources.redis", New: func() caddy.Module { return new(Source) }}
}

var setName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// Provision finds the client. It connects to nothing.
func (s *Source) Provision(ctx caddy.Context) (err error) {
	s.Set = cmp.Or(s.Set, "default")
	if !setName.MatchString(s.Set) {
		return fmt.Errorf("flags source redis: a set's name is of letters, digits, '-', '_' and '.', got '%s'", s.Set)
	}
	s.state.Store(&flags.State{Err: errors.New("no read has ended yet")})
	if s.client, err = redispool.Use(ctx, s.Client); errors.Is(err, caddy.ErrNotConfigured) {
		return errors.New("flags source redis needs the global option 'redis'")
	} else if err != nil {
		return fmt.Errorf("flags source redis: %w", err)
	}
	return nil
}

// ID names the flags, wherever the configuration names them.
func (s *Source) ID() string { return "redis:" + s.client.Key()[:12] + ":" + s.Set }

func (s *Source) key(part string) string { return "sallyport:flags:{" + s.Set + "}:" + part }

// Prepare takes up what a process before this one knew, so that the first
// request need not wait for Redis.
func (s *Source) Prepare(d *flags.Desk) error {
	s.desk = d
	if s.known.read(d.Kept(context.Background())) {
		set, err := s.known.rules(d.Attribute, nil)
		if err != nil {
			d.Logger.Warn("of the last known flags some are not in force", zap.Error(err))
		}
		s.rules.Store(set)
		d.Baseline(flags.Texts(set))
		s.told = true
	}
	return nil
}

// first is how long the start waits for the first answer: without it, flags
// would have their defaults for the moment until it is there.
const first = time.Second

// Start reads the flags and begins to wait for news.
func (s *Source) Start(*flags.Desk) error {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	soon, enough := context.WithTimeout(ctx, first)
	defer enough()
	s.note(s.refresh(soon))
	s.done.Go(func() { s.follow(ctx) })
	return nil
}

const (
	// waiting is how long one command waits for news, and so how soon a version
	// is noticed that nobody told of.
	waiting = 500 * time.Millisecond
	// breather is how long to wait after a failure.
	breather = 500 * time.Millisecond
)

// follow waits for news until ctx ends, and reads after each.
func (s *Source) follow(ctx context.Context) {
	last := "$"
	for ctx.Err() == nil {
		got, err := s.client.Redis().XRead(ctx, &redis.XReadArgs{Streams: []string{s.key("news"), last}, Count: 100, Block: waiting}).Result()
		switch {
		case errors.Is(err, redis.Nil):
		case err != nil:
			s.note(err)
			select {
			case <-time.After(breather):
			case <-ctx.Done():
			}
			continue
		default:
			messages := got[0].Messages
			last = messages[len(messages)-1].ID
		}
		if err := s.refresh(ctx); ctx.Err() == nil {
			s.note(err)
		}
	}
}

// note remembers how a read went.
func (s *Source) note(err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if err == nil {
		s.state.Store(&flags.State{Heard: time.Now()})
		s.failed = ""
		return
	}
	s.state.Store(&flags.State{Heard: s.state.Load().Heard, Err: err})
	if s.failed == "" {
		s.desk.Logger.Warn("flags in redis are not to be had in full; the last known ones hold", zap.Error(err))
	}
	s.failed = err.Error()
}

// Rules implements flags.Ruled.
func (s *Source) Rules() *rules.Set { return s.rules.Load() }

// State implements flags.Source.
func (s *Source) State() flags.State { return *s.state.Load() }

// Stop ends the waiting.
func (s *Source) Stop() {
	s.cancel()
	s.done.Wait()
}

// UnmarshalCaddyfile reads the source. Syntax:
//
//	source redis [<client>] {
//		set <name>
//	}
func (s *Source) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	switch args := d.RemainingArgs(); len(args) {
	case 0:
	case 1:
		s.Client = args[0]
	default:
		return d.Errf("source 'redis' takes the name of a redis option at most, got %d arguments", len(args))
	}
	return syntax.Block(d, "source redis", syntax.Option{Name: "set", Read: syntax.Text(&s.Set)})
}

var (
	_ flags.Ruled           = (*Source)(nil)
	_ flags.Writer          = (*Source)(nil)
	_ caddy.Provisioner     = (*Source)(nil)
	_ caddyfile.Unmarshaler = (*Source)(nil)
)
