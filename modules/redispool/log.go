package redispool

import (
	"context"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
)

func init() {
	redis.SetLogger(quiet{})
}

// quiet takes the library's remarks, which it would print for each dial that
// fails. Readiness and metrics say the same once.
type quiet struct{}

func (quiet) Printf(_ context.Context, format string, v ...any) {
	caddy.Log().Named("redis").Debug(fmt.Sprintf(format, v...))
}
