// Package redis is the audit sink for a Redis stream.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/redispool"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(Sink)) }

// Sink appends each event to a stream with XADD, in one round trip a batch.
// The entry has the fields `event` and `type`.
type Sink struct {
	// Client is the name of a `redis` option. Default: the one without a name.
	Client string `json:"client,omitempty"`

	// Stream is the key of the stream. Default: `sallyport:audit`.
	Stream string `json:"stream,omitempty"`

	// MaxLen is about how many entries the stream keeps; older ones are
	// removed by Redis. Default: 0, all.
	MaxLen int `json:"max_len,omitempty"`

	client *redispool.Client
}

// CaddyModule returns the Caddy module information.
func (*Sink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.redis", New: func() caddy.Module { return new(Sink) }}
}

// Provision finds the client.
func (s *Sink) Provision(ctx caddy.Context) (err error) {
	if s.Client == "" {
		s.Client = redispool.Default
	}
	if s.Stream == "" {
		s.Stream = "sallyport:audit"
	}
	if s.client, err = redispool.Use(ctx, s.Client); err != nil {
		return fmt.Errorf("redis sink: %w", err)
	}
	return nil
}

// Deliver appends the batch as one transaction: either all of it is there, or
// none.
func (s *Sink) Deliver(ctx context.Context, batch audit.Batch) error {
	_, err := s.client.Redis().TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i := range batch.Events {
			e := &batch.Events[i]
			p.XAdd(ctx, &redis.XAddArgs{Stream: s.Stream, MaxLen: int64(s.MaxLen), Approx: s.MaxLen > 0, Values: []any{"type", e.Type, "event", e.JSON}})
		}
		return nil
	})
	if err != nil && denied(err) {
		return &audit.Fault{Verdict: audit.Denied, Err: err}
	}
	return err
}

// denied says whether Redis refuses us, rather than the moment.
func denied(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && (strings.HasPrefix(answer.Error(), "NOPERM") || strings.HasPrefix(answer.Error(), "NOAUTH") || strings.HasPrefix(answer.Error(), "WRONGTYPE"))
}

// UnmarshalCaddyfile sets up the sink. Syntax:
//
//	redis [<client>] {
//		stream <key>
//		max_len <count>
//	}
func (s *Sink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		s.Client = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	return syntax.Block(d, "sink redis",
		syntax.Option{Name: "stream", Read: syntax.Text(&s.Stream)},
		syntax.Option{Name: "max_len", Read: syntax.Count(&s.MaxLen, 1)})
}

var (
	_ caddy.Provisioner     = (*Sink)(nil)
	_ caddyfile.Unmarshaler = (*Sink)(nil)
	_ audit.Sink            = (*Sink)(nil)
)
