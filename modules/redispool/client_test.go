package redispool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

func provisioned(t *testing.T, clients map[string]*Settings) *App {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	a := &App{Clients: clients}
	t.Cleanup(func() {
		if err := a.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	if err := a.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

func client(t *testing.T, s *Settings) *Client {
	t.Helper()
	c, err := provisioned(t, map[string]*Settings{Default: s}).Client("")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientReachesItsDatabase(t *testing.T) {
	server := redistest.Start(t)
	ctx := context.Background()
	zero := client(t, &Settings{URL: "redis://" + server.Addr})
	one := client(t, &Settings{URL: "redis://" + server.Addr + "/1"})
	if err := one.Redis().Set(ctx, "k", "one", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := zero.Redis().Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("database 0 answers %v for a key of database 1, want redis.Nil", err)
	}
}

func TestOneClientForEqualSettings(t *testing.T) {
	before := client(t, &Settings{URL: "redis://127.0.0.1:1"})
	after := client(t, &Settings{URL: "redis://127.0.0.1:1"})
	other := client(t, &Settings{URL: "redis://127.0.0.1:1", PoolSize: 3})
	if before != after {
		t.Error("a reload with the same settings made a second client")
	}
	if before == other {
		t.Error("clients of different settings are one")
	}
}

func TestProvisionConnectsToNothing(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	client(t, &Settings{URL: "redis://" + server.Addr})
}

func TestReadySaysDegraded(t *testing.T) {
	server := redistest.Start(t)
	a := provisioned(t, map[string]*Settings{Default: {URL: "redis://" + server.Addr}})
	if err := a.Ready(context.Background()); err != nil {
		t.Errorf("Ready with a server: %v", err)
	}
	server.Stop()
	gone := provisioned(t, map[string]*Settings{"gone": {URL: "redis://" + server.Addr, PoolSize: 2}})
	err := gone.Ready(context.Background())
	d, ok := err.(interface{ Degraded() bool })
	if !ok || !d.Degraded() || !strings.Contains(err.Error(), "redis gone") {
		t.Errorf("Ready without a server = %v, want a degraded error that names the client", err)
	}
}

func TestRotatedPasswordNeedsNoReload(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "first")
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	ctx := context.Background()
	c := client(t, &Settings{URL: "redis://" + server.Addr, Password: "{file." + file + "}"})
	if err := c.Redis().Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Redis().ConfigSet(ctx, "requirepass", "second").Err(); err != nil {
		t.Fatal(err)
	}
	write("second")
	// As a failover would, end the connections that know the old password.
	_ = c.Redis().Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no").Err()
	var err error
	for range 10 {
		if err = c.Redis().Ping(ctx).Err(); err == nil {
			return
		}
	}
	t.Errorf("Ping after the rotation: %v", err)
}

func TestACLUserFromURL(t *testing.T) {
	server := redistest.Start(t, "--user", "gateway", "on", ">pass:word", "~*", "+@all", "--user", "default", "off")
	c := client(t, &Settings{URL: "redis://gateway:pass%3Aword@" + server.Addr})
	who, err := c.Redis().Do(context.Background(), "ACL", "WHOAMI").Text()
	if err != nil || who != "gateway" {
		t.Errorf("ACL WHOAMI = %q, %v; want gateway", who, err)
	}
}

func TestRefusedSettings(t *testing.T) {
	t.Setenv("EMPTY_REDIS_URL", "")
	for _, c := range []struct {
		name     string
		settings Settings
		want     string
	}{
		{"empty variable", Settings{URL: "{env.EMPTY_REDIS_URL}"}, "EMPTY_REDIS_URL"},
		{"scheme", Settings{URL: "http://h"}, "redis, rediss and unix"},
		{"query", Settings{URL: "redis://h?pool_size=9"}, "query"},
		{"two hosts", Settings{URL: "redis://a,b"}, "sentinel <name> or cluster"},
		{"both", Settings{URL: "redis://a", Sentinel: "m", Cluster: true}, "exclude"},
		{"nothing", Settings{}, "neither a url nor an address"},
		{"no key", Settings{URL: "redis://a", TLS: &TLS{Certificate: "x"}}, "key file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := hold("r", &c.settings)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
	_, err := hold("r", &Settings{URL: "redis://u:hunter2@[bad"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v; want one without the password", err)
	}
}
