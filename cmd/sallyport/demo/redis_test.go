package demo

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

func TestDemoKeepsLimitsInRedis(t *testing.T) {
	server := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer c.Close()

	p := sallyport(t, t.TempDir(), "demo", "--redis", "redis://"+server.Addr+"/0")
	lines := printedLines(p)
	paste(t, lines[3]) // 429
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) == 0 {
		t.Errorf("Redis holds the keys %q (%v) after a caller met his limit, want the limit", keys, err)
	}
	if code, printed := p.stop(os.Interrupt); code != 0 {
		t.Errorf("Ctrl-C: exit code %d, want 0; printed:\n%s", code, printed)
	}
}
