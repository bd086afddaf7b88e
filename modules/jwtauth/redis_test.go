package jwtauth

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

func redisServer(t *testing.T) *redistest.Server { return redistest.Start(t) }

func redisReplays(t *testing.T) replays {
	client := redis.NewClient(&redis.Options{Addr: redisServer(t).Addr})
	t.Cleanup(func() { _ = client.Close() })
	return inRedis{client}
}
