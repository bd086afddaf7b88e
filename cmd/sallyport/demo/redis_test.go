package demo

import (
	"os"
	"strconv"
	"strings"
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

func TestDemoSaysThatRedisIsGone(t *testing.T) {
	dead := "redis://127.0.0.1:" + strconv.Itoa(redistest.FreePort(t))
	p := sallyport(t, t.TempDir(), "demo", "--redis", dead)
	lines := printedLines(p)
	if !strings.Contains(p.seen.String(), "Not all is well") {
		t.Errorf("with no Redis at %s the demo prints:\n%s", dead, p.seen.String())
	}
	paste(t, lines[0])
	paste(t, lines[3]) // 429: each gateway goes on with its own share
	if code, printed := p.stop(os.Interrupt); code != 0 {
		t.Errorf("Ctrl-C: exit code %d, want 0; printed:\n%s", code, printed)
	}
}
